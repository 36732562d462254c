#include "raw_packet.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>

#include <cerrno>

#include "deadline.h"

namespace tsunagi {
namespace {

tcphdr TcpHeader(const Tuple::End& from, const Tuple::End& to, const Segment& segment) {
  tcphdr header{};
  std::memcpy(&header.source, from.port, 2);
  std::memcpy(&header.dest, to.port, 2);
  header.seq = htonl(segment.sequence);
  header.ack_seq = htonl(segment.acknowledged);
  header.doff = sizeof header / 4;
  header.ack = 1;
  header.fin = segment.fin;
  header.window = htons(segment.window);
  // The pseudo-header: a mapped address differs from the IPv4 address in 0xffff alone, which adds nothing to such a sum.
  Checksum checksum;
  checksum.Add(from.address, sizeof from.address);
  checksum.Add(to.address, sizeof to.address);
  checksum.Add(IPPROTO_TCP);
  checksum.Add(static_cast<uint16_t>(sizeof header));
  checksum.Add(&header, sizeof header);
  header.check = checksum.Value();
  return header;
}

template <typename IpHeader>
RawPacket Join(const IpHeader& ip, const tcphdr& tcp) {
  RawPacket packet{sizeof ip + sizeof tcp, {}};
  static_assert(sizeof ip + sizeof tcp <= sizeof packet.bytes);
  std::memcpy(packet.bytes, &ip, sizeof ip);
  std::memcpy(packet.bytes + sizeof ip, &tcp, sizeof tcp);
  return packet;
}

}  // namespace

void Checksum::Add(const void* data, size_t length) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  for (size_t index = 0; index < length; index += 2) sum_ += static_cast<uint32_t>(bytes[index] << 8 | bytes[index + 1]);
}

uint16_t Checksum::Value() const {
  uint32_t folded = (sum_ & 0xffff) + (sum_ >> 16);
  folded += folded >> 16;
  return htons(static_cast<uint16_t>(~folded));
}

RawPacket ToPacket(const Tuple::End& from, const Tuple::End& to, bool ipv4, const Segment& segment) {
  tcphdr tcp = TcpHeader(from, to, segment);
  if (!ipv4) {
    ip6_hdr ip{};
    ip.ip6_flow = htonl(6u << 28);
    ip.ip6_plen = htons(sizeof tcp);
    ip.ip6_nxt = IPPROTO_TCP;
    ip.ip6_hlim = 64;
    std::memcpy(&ip.ip6_src, from.address, 16);
    std::memcpy(&ip.ip6_dst, to.address, 16);
    return Join(ip, tcp);
  }
  // A raw socket fills in the identification and the checksum. @note raw(7), IP_HDRINCL
  iphdr ip{};
  ip.version = 4;
  ip.ihl = sizeof ip / 4;
  ip.tot_len = htons(sizeof ip + sizeof tcp);
  ip.ttl = 64;
  ip.protocol = IPPROTO_TCP;
  std::memcpy(&ip.saddr, from.address + 12, 4);
  std::memcpy(&ip.daddr, to.address + 12, 4);
  return Join(ip, tcp);
}

int SendRaw(int fd, const void* data, size_t length, const Tuple::End& to, bool ipv4, uint32_t scope) {
  // A raw socket has no ports.
  Tuple::End host = to;
  std::memset(host.port, 0, sizeof host.port);
  sockaddr_storage address;
  socklen_t address_length = ToSockaddr(host, ipv4 ? AF_INET : AF_INET6, scope, &address);
  ssize_t sent = RetryInterrupted(
      [&] { return sendto(fd, data, length, MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&address), address_length); });
  return sent == -1 ? errno : 0;
}

}  // namespace tsunagi
