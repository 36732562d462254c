#pragma once

#include "connection_record.h"
#include "raw_packet.h"
#include "unique_fd.h"

namespace tsunagi {

// Sends segments as if they came from the peer to sockets of this host, through the loopback interface and with the mark that a packet
// hold lets through. What the kernel answers is held.
class Injector {
 public:
  // 0, or why no segment can be injected: EPERM without CAP_NET_RAW.
  int Open(bool ipv4);
  // 0 or an errno. The socket has taken the segment in when this returns.
  int Inject(const Tuple& tuple, uint32_t scope, const Segment& segment);

 private:
  UniqueFd& SocketFor(bool ipv4) { return ipv4 ? ipv4_ : ipv6_; }

  UniqueFd ipv4_;
  UniqueFd ipv6_;
};

}  // namespace tsunagi
