#pragma once

// TCP_REPAIR on and off. @note tcp_repair_set() in net/ipv4/tcp.c (Linux 6.18): entering needs CAP_NET_ADMIN in the user namespace that
// owns the network namespace; a socket in repair mode closes without a FIN or RST; entering and leaving overwrite SO_REUSEADDR.

namespace tsunagi {

// The socket's SO_REUSEADDR, which repair mode overwrites, or a negative errno.
int EnterRepairMode(int fd);

// 0 or an errno. `reuse` as entering gave it: one that never entered has nothing to leave.
int LeaveRepairMode(int fd, int reuse, bool probe);

}  // namespace tsunagi
