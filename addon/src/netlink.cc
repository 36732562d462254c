#include "netlink.h"

#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "deadline.h"
#include "socket_options.h"

namespace tsunagi {
namespace {

// Several transactions of this length rather than one of any: the kernel wants each in one piece of memory.
constexpr int kWantedSendBuffer = 4 << 20;
constexpr int kWantedReceiveBuffer = 1 << 20;
// The kernel makes its answers to a dump at most this long.
constexpr size_t kAnswerBytes = 1 << 16;

}  // namespace

void Messages::Begin(uint16_t type, uint16_t flags, uint8_t family, uint16_t resource) {
  message_ = bytes_.size();
  nlmsghdr header{};
  header.nlmsg_type = type;
  header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  nfgenmsg netfilter{family, NFNETLINK_V0, htons(resource)};
  bytes_.resize(message_ + NLMSG_HDRLEN + NLMSG_ALIGN(sizeof netfilter));
  std::memcpy(&bytes_[message_], &header, sizeof header);
  std::memcpy(&bytes_[message_ + NLMSG_HDRLEN], &netfilter, sizeof netfilter);
}

void Messages::End() {
  auto length = static_cast<uint32_t>(MessageBytes());
  reinterpret_cast<nlmsghdr*>(&bytes_[message_])->nlmsg_len = length;
}

void Messages::Put(uint16_t type, const void* data, size_t length) {
  size_t start = bytes_.size();
  nlattr header{static_cast<uint16_t>(NLA_HDRLEN + length), type};
  bytes_.resize(start + NLA_HDRLEN + NLA_ALIGN(length));
  std::memcpy(&bytes_[start], &header, sizeof header);
  if (length != 0) std::memcpy(&bytes_[start + NLA_HDRLEN], data, length);
}

void Messages::PutNumber(uint16_t type, uint32_t number) {
  uint32_t value = htonl(number);
  Put(type, &value, sizeof value);
}

void Messages::PutLongNumber(uint16_t type, uint64_t number) {
  uint64_t value = htobe64(number);
  Put(type, &value, sizeof value);
}

Transaction::Transaction(uint32_t generation) {
  Begin(NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  if (generation != 0) PutNumber(NFNL_BATCH_GENID, generation);
  End();
}

void Transaction::Close() {
  // A message that fails answers anyway; that of the last says that all went well.
  Acknowledge();
  Begin(NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  End();
}

int NetfilterSocket::Open() {
  fd_.Reset(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (!fd_) return errno;
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (bind(fd_.Get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == -1) return errno;
  SetOption(fd_.Get(), SOL_NETLINK, NETLINK_CAP_ACK, 1);
  if (!SetOption(fd_.Get(), SOL_SOCKET, SO_RCVBUFFORCE, kWantedReceiveBuffer)) {
    SetOption(fd_.Get(), SOL_SOCKET, SO_RCVBUF, kWantedReceiveBuffer);
  }
  if (!SetOption(fd_.Get(), SOL_SOCKET, SO_SNDBUFFORCE, kWantedSendBuffer)) {
    SetOption(fd_.Get(), SOL_SOCKET, SO_SNDBUF, kWantedSendBuffer);
  }
  int bytes = 0;
  if (!GetOption(fd_.Get(), SOL_SOCKET, SO_SNDBUF, &bytes)) return errno;
  // @note netlink_sendmsg() of net/netlink/af_netlink.c: at most the send buffer without 32 bytes.
  capacity_ = static_cast<size_t>(bytes) - 32;
  return 0;
}

int NetfilterSocket::Send(const Messages& messages) {
  const std::vector<uint8_t>& bytes = messages.Bytes();
  ssize_t sent = RetryInterrupted([&] { return send(fd_.Get(), bytes.data(), bytes.size(), 0); });
  return sent == -1 ? errno : 0;
}

// The kernel has worked everything off within send(2): what there is to read is there already.
int NetfilterSocket::ReadAnswers(bool* acknowledged) {
  std::vector<uint8_t> buffer(kAnswerBytes);
  int error = 0;
  for (;;) {
    ssize_t bytes = RetryInterrupted([&] { return recv(fd_.Get(), buffer.data(), buffer.size(), MSG_DONTWAIT); });
    if (bytes == -1) return errno == EAGAIN ? error : error != 0 ? error : errno;
    auto left = static_cast<unsigned>(bytes);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type != NLMSG_ERROR || header->nlmsg_len < NLMSG_LENGTH(sizeof(nlmsgerr))) continue;
      int answer = -static_cast<nlmsgerr*>(NLMSG_DATA(header))->error;
      if (answer == 0) *acknowledged = true;
      if (error == 0) error = answer;
    }
  }
}

int NetfilterSocket::Commit(const Transaction& transaction) {
  if (int error = Send(transaction)) return error;
  bool acknowledged = false;
  if (int error = ReadAnswers(&acknowledged)) return error;
  return acknowledged ? 0 : EPROTO;
}

int NetfilterSocket::Ask(const Messages& request, const std::function<void(const Attributes&)>& visit) {
  if (int error = Send(request)) return error;
  std::vector<uint8_t> buffer(kAnswerBytes);
  for (;;) {
    ssize_t bytes = RetryInterrupted([&] { return recv(fd_.Get(), buffer.data(), buffer.size(), 0); });
    if (bytes == -1) return errno;
    auto left = static_cast<unsigned>(bytes);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return 0;
      if (header->nlmsg_type == NLMSG_ERROR) return -static_cast<nlmsgerr*>(NLMSG_DATA(header))->error;
      size_t skipped = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(nfgenmsg));
      if (header->nlmsg_len < skipped) continue;
      visit(Attributes(reinterpret_cast<uint8_t*>(header) + skipped, header->nlmsg_len - skipped));
    }
  }
}

int NetfilterSocket::ReadGeneration(uint32_t* generation) {
  Messages request;
  request.Begin(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, NLM_F_ACK, AF_UNSPEC);
  request.End();
  return Ask(request, [&](const Attributes& attributes) {
    attributes.ForEach([&](const Attributes::Attribute& attribute) {
      if (attribute.type != NFTA_GEN_ID || attribute.length != sizeof *generation) return;
      std::memcpy(generation, attribute.data, sizeof *generation);
      *generation = ntohl(*generation);
    });
  });
}

}  // namespace tsunagi
