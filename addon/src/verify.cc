// Figures of a TCP socket that are the same before and after it moves to another process, without privileges.

#include <arpa/inet.h>
#include <linux/sockios.h>
// For tcp_info with its byte counts. It cannot be in one file with netinet/tcp.h, hence not with uv.h.
#include <linux/tcp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "napi_error.h"

namespace tsunagi {
namespace {

// Columns of native.ts VERIFY_COLUMN, in its order.
struct Figures {
  double state = -1;
  double consumed = 0;
  double produced = 0;
  double receive_queue = 0;
  double send_queue = 0;
  double identity = 0;
};
constexpr size_t kColumns = sizeof(Figures) / sizeof(double);
static_assert(kColumns == 6, "VERIFY_COLUMNS in native.ts");

// include/net/tcp_states.h, the states after a FIN.
enum TcpState { kFinWait1 = 4, kFinWait2 = 5, kTimeWait = 6, kCloseWait = 8, kLastAck = 9, kListen = 10, kClosing = 11 };

// How often a socket that changes meanwhile is looked at again: more than a receive window has segments.
constexpr int kMaxPasses = 1000;

bool PeerFinArrived(int state) {
  return state == kCloseWait || state == kLastAck || state == kClosing || state == kTimeWait;
}

bool OwnFinQueued(int state) {
  return state == kFinWait1 || state == kFinWait2 || state == kClosing || state == kLastAck || state == kTimeWait;
}

int QueueLength(int fd, unsigned long request) {
  int bytes = 0;
  return ioctl(fd, request, &bytes) == 0 ? bytes : 0;
}

// The kernel's own number of the socket, the same through every descriptor in every process, mixed down to what a double holds.
// @note SO_COOKIE (socket(7), Linux 4.12); 0 below.
double Identity(int fd) {
  uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) == -1) return 0;
  return static_cast<double>((cookie * 0x9e3779b97f4a7c15u) >> 12);
}

// The length of what the kernel knows, 0 for a socket that is not TCP: unix and UDP sockets have no such option.
socklen_t ReadTcpInfo(int fd, tcp_info* info) {
  *info = {};
  socklen_t length = sizeof *info;
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &length) == 0 ? length : 0;
}

// Linux 4.6 says whether the send queue is empty in the same breath as the counts: nothing in flight and nothing unsent.
bool SaysNothingIsQueued(const tcp_info& info, socklen_t known) {
  constexpr socklen_t kWithNotSent = offsetof(tcp_info, tcpi_notsent_bytes) + sizeof(tcp_info::tcpi_notsent_bytes);
  return known >= kWithNotSent && info.tcpi_unacked == 0 && info.tcpi_notsent_bytes == 0;
}

// Linux 4.1 has byte counts.
constexpr socklen_t kWithByteCounts = offsetof(tcp_info, tcpi_bytes_received) + sizeof(tcp_info::tcpi_bytes_received);

// The counters and the queues come from different system calls, between which a segment or an ACK may arrive. As long as nobody
// here reads or writes, the receive queue only grows and the send queue only shrinks. So a queue belongs to TCP_INFO if it is as long
// before as after it. For one that is empty, as most are, one look is enough: after TCP_INFO for the first, within it for the second.
//
// A FIN counts as one byte in bytes_received as soon as it arrives, in write_seq as soon as it is queued, but was neither sent
// nor received by an application; without taking it out, a FIN that arrives during a move would look like a lost byte.
// @note tcp_rcv_nxt_update(), tcp_inq(), tcp_send_fin() and tcp_ioctl() of net/ipv4 (Linux 6.18). bytes_acked of a socket that
// connected itself is one too high (its SYN), before and after a move alike.
Figures Inspect(int fd) {
  Figures figures;
  bool received_settled = false;
  bool sent_settled = false;
  int receive_queue = -1;
  int send_queue = -1;
  for (int pass = 0; pass < kMaxPasses && !(received_settled && sent_settled); pass++) {
    tcp_info info;
    socklen_t known = ReadTcpInfo(fd, &info);
    if (known == 0) return figures;
    int receive_queue_after = QueueLength(fd, SIOCINQ);
    bool nothing_sent = SaysNothingIsQueued(info, known);
    int send_queue_after = nothing_sent ? 0 : QueueLength(fd, SIOCOUTQ);
    figures.state = info.tcpi_state;
    if (pass == 0) figures.identity = Identity(fd);
    if (known < kWithByteCounts || info.tcpi_state == kListen) return figures;
    if (!received_settled) {
      received_settled = receive_queue_after == 0 || receive_queue_after == receive_queue;
      figures.consumed =
          static_cast<double>(info.tcpi_bytes_received) - PeerFinArrived(info.tcpi_state) - receive_queue_after;
      figures.receive_queue = receive_queue_after;
    }
    if (!sent_settled) {
      sent_settled = nothing_sent || send_queue == send_queue_after;
      figures.produced = static_cast<double>(info.tcpi_bytes_acked) - OwnFinQueued(info.tcpi_state) + send_queue_after;
      figures.send_queue = send_queue_after;
    }
    receive_queue = receive_queue_after;
    send_queue = send_queue_after;
  }
  return figures;
}

void InspectRange(const int* fds, size_t count, double* next) {
  for (const int* end = fds + count; fds != end; fds++) {
    Figures figures = Inspect(*fds);
    for (double figure : {figures.state, figures.consumed, figures.produced, figures.receive_queue, figures.send_queue,
                          figures.identity}) {
      *next++ = figure;
    }
  }
}

// Nobody serves the connections meanwhile, and the other process only waits: its core is free for half of them.
constexpr size_t kWorthAThread = 1000;

Napi::Value InspectTcp(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fds", Kind::kFds}})) return {};
  FdList list(info[0]);
  std::vector<int> fds(list.begin(), list.end());
  Napi::Float64Array columns = Napi::Float64Array::New(info.Env(), fds.size() * kColumns);
  double* figures = columns.Data();
  size_t half = fds.size() < kWorthAThread ? 0 : fds.size() / 2;
  std::thread other;
  if (half > 0) other = std::thread(InspectRange, fds.data(), half, figures);
  InspectRange(fds.data() + half, fds.size() - half, figures + half * kColumns);
  if (other.joinable()) other.join();
  return columns;
}

Napi::Value Identities(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fds", Kind::kFds}})) return {};
  FdList fds(info[0]);
  Napi::Float64Array identities = Napi::Float64Array::New(info.Env(), fds.size());
  double* next = identities.Data();
  for (int fd : fds) *next++ = Identity(fd);
  return identities;
}

// As net.Socket shows it: a link-local address carries its interface.
std::string Text(const sockaddr_in6& address) {
  char text[INET6_ADDRSTRLEN];
  inet_ntop(AF_INET6, &address.sin6_addr, text, sizeof text);
  std::string result = text;
  if (!IN6_IS_ADDR_LINKLOCAL(&address.sin6_addr) || address.sin6_scope_id == 0) return result;
  char interface[IF_NAMESIZE];
  if (if_indextoname(address.sin6_scope_id, interface) != nullptr) result.append("%").append(interface);
  return result;
}

std::string Text(const sockaddr_in& address) {
  char text[INET_ADDRSTRLEN];
  inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
  return text;
}

Napi::Object ToObject(Napi::Env env, const sockaddr_storage& storage) {
  Napi::Object result = Napi::Object::New(env);
  if (storage.ss_family == AF_INET6) {
    const auto& address = reinterpret_cast<const sockaddr_in6&>(storage);
    result.Set("family", "IPv6");
    result.Set("address", Text(address));
    result.Set("port", Napi::Number::New(env, ntohs(address.sin6_port)));
  } else {
    const auto& address = reinterpret_cast<const sockaddr_in&>(storage);
    result.Set("family", "IPv4");
    result.Set("address", Text(address));
    result.Set("port", Napi::Number::New(env, ntohs(address.sin_port)));
  }
  return result;
}

Napi::Value SocketAddresses(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"fd", Kind::kFd}})) return {};
  int fd = info[0].As<Napi::Number>();
  sockaddr_storage local{};
  socklen_t length = sizeof local;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) == -1) return ThrowErrno(env, errno, "getsockname");
  if (local.ss_family != AF_INET && local.ss_family != AF_INET6) return ThrowErrno(env, EAFNOSUPPORT, "getsockname");
  int listening = 0;
  length = sizeof listening;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == -1) return ThrowErrno(env, errno, "getsockopt");
  sockaddr_storage peer{};
  length = sizeof peer;
  bool connected = getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0;
  if (!connected && errno != ENOTCONN) return ThrowErrno(env, errno, "getpeername");

  Napi::Object result = Napi::Object::New(env);
  result.Set("local", ToObject(env, local));
  result.Set("peer", connected ? static_cast<Napi::Value>(ToObject(env, peer)) : env.Null());
  result.Set("listening", Napi::Boolean::New(env, listening != 0));
  return result;
}

}  // namespace

void InitVerify(Napi::Env env, Napi::Object exports) {
  Export<InspectTcp>(env, exports, "inspectTcp");
  Export<Identities>(env, exports, "identities");
  Export<SocketAddresses>(env, exports, "socketAddresses");
}

}  // namespace tsunagi
