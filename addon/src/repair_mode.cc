#include "repair_mode.h"

// It cannot be in one file with netinet/tcp.h, hence not with uv.h.
#include <linux/tcp.h>
#include <netinet/in.h>

#include <cerrno>

#include "socket_options.h"

namespace tsunagi {

int EnterRepairMode(int fd) {
  int reuse = 0;
  if (!GetOption(fd, SOL_SOCKET, SO_REUSEADDR, &reuse)) return -errno;
  if (!SetOption(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON)) return -errno;
  return reuse;
}

int LeaveRepairMode(int fd, int reuse, bool probe) {
  if (reuse < 0) return 0;
  if (!SetOption(fd, IPPROTO_TCP, TCP_REPAIR, probe ? TCP_REPAIR_OFF : TCP_REPAIR_OFF_NO_WP)) return errno;
  if (reuse != 0 && !SetOption(fd, SOL_SOCKET, SO_REUSEADDR, 1)) return errno;
  return 0;
}

}  // namespace tsunagi
