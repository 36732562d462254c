#include "inject.h"

#include <cerrno>

#include "hold_table.h"
#include "socket_options.h"

namespace tsunagi {

int Injector::Open(bool ipv4) {
  UniqueFd& fd = SocketFor(ipv4);
  if (fd) return 0;
  UniqueFd opened(socket(ipv4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!opened) return errno;
  if (!SetOption(opened.Get(), SOL_SOCKET, SO_MARK, kHoldMark)) return errno;
  fd = std::move(opened);
  return 0;
}

int Injector::Inject(const Tuple& tuple, uint32_t scope, const Segment& segment) {
  bool ipv4 = tuple.CarriesIpv4();
  RawPacket packet = ToPacket(tuple.peer, tuple.local, ipv4, segment);
  return SendRaw(SocketFor(ipv4).Get(), packet.bytes, packet.length, tuple.local, ipv4, scope);
}

}  // namespace tsunagi
