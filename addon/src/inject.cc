#include "inject.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>

#include <cerrno>

#include "deadline.h"
#include "hold_table.h"
#include "socket_options.h"

namespace tsunagi {
namespace {

// RFC 1071, over an even number of bytes.
class Checksum {
 public:
  void Add(const void* data, size_t length) {
    const auto* bytes = static_cast<const uint8_t*>(data);
    for (size_t index = 0; index < length; index += 2) sum_ += static_cast<uint32_t>(bytes[index] << 8 | bytes[index + 1]);
  }
  void Add(uint16_t number) { sum_ += number; }
  uint16_t Value() const {
    uint32_t folded = (sum_ & 0xffff) + (sum_ >> 16);
    folded += folded >> 16;
    return htons(static_cast<uint16_t>(~folded));
  }

 private:
  uint32_t sum_ = 0;
};

tcphdr TcpHeader(const Tuple& tuple, const PeerSegment& segment) {
  tcphdr header{};
  std::memcpy(&header.source, tuple.peer.port, 2);
  std::memcpy(&header.dest, tuple.local.port, 2);
  header.seq = htonl(segment.sequence);
  header.ack_seq = htonl(segment.acknowledged);
  header.doff = sizeof header / 4;
  header.ack = 1;
  header.fin = segment.fin;
  header.window = htons(segment.window);
  // The pseudo-header: a mapped address differs from the IPv4 address in 0xffff alone, which adds nothing to such a sum.
  Checksum checksum;
  checksum.Add(tuple.peer.address, sizeof tuple.peer.address);
  checksum.Add(tuple.local.address, sizeof tuple.local.address);
  checksum.Add(IPPROTO_TCP);
  checksum.Add(static_cast<uint16_t>(sizeof header));
  checksum.Add(&header, sizeof header);
  header.check = checksum.Value();
  return header;
}

struct Ipv4Packet {
  iphdr ip;
  tcphdr tcp;
};

// The kernel fills in the identification and the checksum. @note raw(7), IP_HDRINCL
Ipv4Packet ToIpv4(const Tuple& tuple, const PeerSegment& segment) {
  Ipv4Packet packet{};
  packet.ip.version = 4;
  packet.ip.ihl = sizeof packet.ip / 4;
  packet.ip.tot_len = htons(sizeof packet);
  packet.ip.ttl = 64;
  packet.ip.protocol = IPPROTO_TCP;
  std::memcpy(&packet.ip.saddr, tuple.peer.address + 12, 4);
  std::memcpy(&packet.ip.daddr, tuple.local.address + 12, 4);
  packet.tcp = TcpHeader(tuple, segment);
  return packet;
}

struct Ipv6Packet {
  ip6_hdr ip;
  tcphdr tcp;
};

Ipv6Packet ToIpv6(const Tuple& tuple, const PeerSegment& segment) {
  Ipv6Packet packet{};
  packet.ip.ip6_flow = htonl(6u << 28);
  packet.ip.ip6_plen = htons(sizeof packet.tcp);
  packet.ip.ip6_nxt = IPPROTO_TCP;
  packet.ip.ip6_hlim = 64;
  std::memcpy(&packet.ip.ip6_src, tuple.peer.address, 16);
  std::memcpy(&packet.ip.ip6_dst, tuple.local.address, 16);
  packet.tcp = TcpHeader(tuple, segment);
  return packet;
}

template <typename Packet>
int SendTo(int fd, const Packet& packet, const sockaddr_storage& to, socklen_t length) {
  ssize_t sent = RetryInterrupted(
      [&] { return sendto(fd, &packet, sizeof packet, MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&to), length); });
  return sent == -1 ? errno : 0;
}

}  // namespace

int Injector::Open(bool ipv4) {
  UniqueFd& fd = SocketFor(ipv4);
  if (fd) return 0;
  UniqueFd opened(socket(ipv4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!opened) return errno;
  if (!SetOption(opened.Get(), SOL_SOCKET, SO_MARK, kHoldMark)) return errno;
  fd = std::move(opened);
  return 0;
}

int Injector::Inject(const Tuple& tuple, uint32_t scope, const PeerSegment& segment) {
  bool ipv4 = tuple.CarriesIpv4();
  Tuple::End to = tuple.local;
  // A raw socket has no ports.
  std::memset(to.port, 0, sizeof to.port);
  sockaddr_storage address;
  socklen_t length = ToSockaddr(to, ipv4 ? AF_INET : AF_INET6, scope, &address);
  int fd = SocketFor(ipv4).Get();
  return ipv4 ? SendTo(fd, ToIpv4(tuple, segment), address, length) : SendTo(fd, ToIpv6(tuple, segment), address, length);
}

}  // namespace tsunagi
