#pragma once

#include <sys/types.h>

namespace tsunagi {

// From here on this process is `uid` (when it is root, which it then must name) and may do nothing beyond an ordinary user's but
// CAP_NET_ADMIN, which neither it nor what it would start can add to. Ends the process, saying why, where that cannot be had.
void KeepNetAdminOnly(uid_t uid);

}  // namespace tsunagi
