#include "md5_key.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstring>

#include "deadline.h"

namespace tsunagi {
namespace {

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 request;
};

// @note inet_diag_find_one_icsk() in net/ipv4/inet_diag.c: a socket of IPv6 is found by the mapped form as well.
Request Ask(const Tuple& tuple, int family) {
  Request asked{};
  asked.header = {sizeof asked, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0};
  asked.request.sdiag_family = static_cast<uint8_t>(family);
  asked.request.sdiag_protocol = IPPROTO_TCP;
  asked.request.idiag_ext = 1 << (INET_DIAG_INFO - 1);  // without it keys are not told
  asked.request.idiag_states = ~0u;
  inet_diag_sockid& id = asked.request.id;
  std::memcpy(&id.idiag_sport, tuple.local.port, sizeof id.idiag_sport);
  std::memcpy(&id.idiag_dport, tuple.peer.port, sizeof id.idiag_dport);
  size_t skipped = family == AF_INET ? 12 : 0;  // the prefix of a mapped address
  std::memcpy(id.idiag_src, tuple.local.address + skipped, 16 - skipped);
  std::memcpy(id.idiag_dst, tuple.peer.address + skipped, 16 - skipped);
  id.idiag_cookie[0] = id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return asked;
}

bool TellsOfKey(const uint8_t* message, size_t length) {
  const auto* header = reinterpret_cast<const nlmsghdr*>(message);
  if (length < NLMSG_LENGTH(sizeof(inet_diag_msg)) || header->nlmsg_type != SOCK_DIAG_BY_FAMILY) return false;
  if (header->nlmsg_len < length) length = header->nlmsg_len;
  for (size_t at = NLMSG_LENGTH(NLMSG_ALIGN(sizeof(inet_diag_msg))); at + NLA_HDRLEN <= length;) {
    const auto* attribute = reinterpret_cast<const nlattr*>(message + at);
    if (attribute->nla_len < NLA_HDRLEN) return false;
    if (attribute->nla_type == INET_DIAG_MD5SIG) return true;
    at += NLA_ALIGN(attribute->nla_len);
  }
  return false;
}

}  // namespace

bool Md5Keys::Has(const Tuple& tuple, int family) {
  if (!fd_ && !is_useless_) fd_.Reset(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd_) {
    is_useless_ = true;
    return false;
  }
  Request asked = Ask(tuple, family);
  if (RetryInterrupted([&] { return send(fd_.Get(), &asked, sizeof asked, 0); }) == -1) return false;
  // The kernel answers within send(2).
  alignas(nlmsghdr) uint8_t answer[8192];
  ssize_t bytes = RetryInterrupted([&] { return recv(fd_.Get(), answer, sizeof answer, MSG_DONTWAIT); });
  return bytes > 0 && TellsOfKey(answer, static_cast<size_t>(bytes));
}

}  // namespace tsunagi
