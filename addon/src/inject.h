#pragma once

#include <cstdint>

#include "connection_record.h"
#include "unique_fd.h"

namespace tsunagi {

// A segment without payload or options, as if it came from the peer.
struct PeerSegment {
  uint32_t sequence;
  uint32_t acknowledged;
  uint16_t window;
  bool fin;
};

// Sends segments to sockets of this host through the loopback interface, with the mark that a packet hold lets through.
// What the kernel answers is held.
class Injector {
 public:
  // 0, or why no segment can be injected: EPERM without CAP_NET_RAW.
  int Open(bool ipv4);
  // 0 or an errno. The socket has taken the segment in when this returns.
  int Inject(const Tuple& tuple, uint32_t scope, const PeerSegment& segment);

 private:
  UniqueFd& SocketFor(bool ipv4) { return ipv4 ? ipv4_ : ipv6_; }

  UniqueFd ipv4_;
  UniqueFd ipv6_;
};

}  // namespace tsunagi
