// announceConnections() and kickPeers(): packets from restored connections that their sockets would not send, or not soon. Both are for
// after the release, need CAP_NET_RAW, and do no harm where they are lost.

#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include <cerrno>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "connection_record.h"
#include "napi_error.h"
#include "raw_packet.h"
#include "unique_fd.h"

namespace tsunagi {
namespace {

// A word of struct tcp_repair_window: the last sequence number that the peer knows to have arrived.
constexpr size_t kAcknowledgedWord = 4;

// How much of a packet an ICMP message quotes at least: its ports and sequence number.
constexpr size_t kQuotedTcpBytes = 8;

// What was acknowledged before the connection was saved is acknowledged again, with a number that has been used: the peer, or a firewall
// on the way, learns nothing but that this side lives. A connection tracker that has never seen the connection takes it up from here.
RawPacket Announcement(const double* row, const Tuple& tuple) {
  uint32_t window = Unsigned(row[kWindow0 + 3]) >> (Unsigned(row[kReceiveScale]) & 15);
  Segment segment{Unsigned(row[kSendSequence]) - 1, Unsigned(row[kReceiveSequence]),
                  static_cast<uint16_t>(window < UINT16_MAX ? window : UINT16_MAX), false};
  return ToPacket(tuple.local, tuple.peer, tuple.CarriesIpv4(), segment);
}

// RFC 6069: an ICMP message "host unreachable" about the segment that the peer repeats in vain tells it that the loss was not congestion.
// It takes one doubling of its timer back, and sends again if that is over.
// @note tcp_ld_RTO_revert() in net/ipv4/tcp_ipv4.c. An application that has asked for IP_RECVERR would see an error.
std::vector<uint8_t> Kick(const double* row, const Tuple& tuple) {
  bool ipv4 = tuple.CarriesIpv4();
  Segment segment{Unsigned(row[kWindow0 + kAcknowledgedWord]), 0, 0, false};
  RawPacket quoted = ToPacket(tuple.peer, tuple.local, ipv4, segment);
  size_t quoted_bytes = (ipv4 ? 20 : 40) + kQuotedTcpBytes;
  icmphdr header{};
  header.type = ipv4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH;
  header.code = ipv4 ? ICMP_HOST_UNREACH : ICMP6_DST_UNREACH_NOROUTE;
  if (ipv4) {
    // The kernel does that for IPv6.
    Checksum checksum;
    checksum.Add(&header, sizeof header);
    checksum.Add(quoted.bytes, quoted_bytes);
    header.checksum = checksum.Value();
  }
  std::vector<uint8_t> message(sizeof header + quoted_bytes);
  std::memcpy(message.data(), &header, sizeof header);
  std::memcpy(message.data() + sizeof header, quoted.bytes, quoted_bytes);
  return message;
}

// Raw sockets of both families, opened when there is something to send.
class Senders {
 public:
  Senders(int protocol_ipv4, int protocol_ipv6) : protocols_{protocol_ipv6, protocol_ipv4} {}

  int Send(const void* data, size_t length, const Tuple& tuple) {
    bool ipv4 = tuple.CarriesIpv4();
    UniqueFd& fd = fds_[ipv4];
    if (!fd) fd.Reset(socket(ipv4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, protocols_[ipv4]));
    return fd ? SendRaw(fd.Get(), data, length, tuple.peer, ipv4, 0) : errno;
  }

 private:
  int protocols_[2];
  UniqueFd fds_[2];
};

// How many packets went out; EPERM stops it, since it would be that of each.
template <typename Send>
Napi::Value ForEachRow(const Napi::CallbackInfo& info, Send send) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"figures", Kind::kNumbers}, {"tuples", Kind::kBytes}})) return {};
  Napi::Float64Array figures = info[0].As<Napi::Float64Array>();
  Napi::Uint8Array tuple_bytes = info[1].As<Napi::Uint8Array>();
  size_t count = tuple_bytes.ByteLength() / sizeof(Tuple);
  if (tuple_bytes.ByteLength() % sizeof(Tuple) != 0 || figures.ElementLength() != count * kColumns) {
    return ThrowRange(env, "The \"figures\" and \"tuples\" arguments must be of the same connections");
  }
  const auto* tuples = reinterpret_cast<const Tuple*>(tuple_bytes.Data());
  uint32_t sent = 0;
  for (size_t index = 0; index < count; index++) {
    const double* row = figures.Data() + index * kColumns;
    if (row[kRefusal] != kAccepted) continue;
    int error = send(row, tuples[index]);
    if (error == EPERM || error == EACCES) {
      return ThrowErrnoBecause(env, error, "socket", "raw packets need CAP_NET_RAW in this network namespace");
    }
    sent += error == 0;
  }
  return Napi::Number::New(env, sent);
}

Napi::Value AnnounceConnections(const Napi::CallbackInfo& info) {
  Senders senders(IPPROTO_RAW, IPPROTO_RAW);
  return ForEachRow(info, [&](const double* row, const Tuple& tuple) {
    RawPacket packet = Announcement(row, tuple);
    return senders.Send(packet.bytes, packet.length, tuple);
  });
}

Napi::Value KickPeers(const Napi::CallbackInfo& info) {
  Senders senders(IPPROTO_ICMP, IPPROTO_ICMPV6);
  return ForEachRow(info, [&](const double* row, const Tuple& tuple) {
    std::vector<uint8_t> message = Kick(row, tuple);
    return senders.Send(message.data(), message.size(), tuple);
  });
}

}  // namespace

void InitWake(Napi::Env env, Napi::Object exports) {
  Export<AnnounceConnections>(env, exports, "announceConnections");
  Export<KickPeers>(env, exports, "kickPeers");
}

}  // namespace tsunagi
