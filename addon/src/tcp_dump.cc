// dumpConnections(): what the kernel knows of connections in repair mode, as data. Each socket is only read: leaving repair mode is all
// that has to be undone.
//
//            snd_una          snd_nxt         write_seq                       copied_seq          rcv_nxt
//               |  sent, unacked  |    unsent    |                                |  receive queue   |
//               +-----------------+--------------+                                +------------------+
//               |<--------- SIOCOUTQ ----------->|                                |<---- SIOCINQ --->|
//
// A FIN has a sequence number like a byte: ours counts in write_seq, SIOCOUTQ and the unsent bytes, the peer's in rcv_nxt alone.

#include <linux/sockios.h>
// It cannot be in one file with netinet/tcp.h, hence not with uv.h.
#include <linux/tcp.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "connection_record.h"
#include "deadline.h"
#include "md5_key.h"
#include "napi_error.h"
#include "repair_mode.h"
#include "socket_options.h"

// Newer than the headers of the oldest system this is built on.
#ifndef TCP_AO_INFO
#define TCP_AO_INFO 40
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

namespace tsunagi {
namespace {

// How often the receive queue is looked at again when a segment arrives meanwhile, which a packet hold prevents.
constexpr int kMaxPasses = 100;

// @note struct tcp_repair_window grows at its end, and a kernel takes only lengths it knows: the longest comes first.
constexpr socklen_t kWindowLengths[] = {32, 28, 24, 20};

// What the rows of one call share.
struct Shared {
  Names names;
  // Once it is known.
  socklen_t window_length = 0;
  // Until the kernel says that it has no TCP-AO.
  bool may_have_authentication = true;
  // Packets are not held and the sockets go on: nothing may be done that the peer could notice.
  bool live = false;
  Md5Keys md5_keys;
};

class Dump {
 public:
  Dump(int fd, double* row, Tuple* tuple, Shared* shared) : fd_(fd), row_(row), tuple_(tuple), shared_(shared) {}

  // Fills the row; `entered` as enterRepair gave it, `events` as poll(2) did.
  void Run(int entered, short events) {
    std::fill(row_, row_ + kColumns, std::numeric_limits<double>::quiet_NaN());
    row_[kReceiveQueue] = row_[kSent] = row_[kUnsent] = 0;
    row_[kErrno] = 0;
    errno = 0;
    Refusal refusal = Judge(entered, events);
    if (refusal == kAccepted) refusal = ReadFigures();
    row_[kReuseAddress] = entered;
    row_[kRefusal] = refusal;
    if (refusal == kCallFailed) row_[kErrno] = errno;
    if (refusal == kNotInRepair && entered < 0) row_[kErrno] = -entered;
    if (refusal != kAccepted) row_[kReceiveQueue] = row_[kSent] = row_[kUnsent] = 0;
  }

  // The peeked queues one behind the other: how many bytes they took, or -1 where they are not what the row says.
  ssize_t CopyQueues(uint8_t* into) {
    size_t received = static_cast<size_t>(row_[kReceiveQueue]);
    size_t produced = static_cast<size_t>(row_[kSent] + row_[kUnsent]);
    if (received != 0 && !PeekReceiveQueue(into, received)) return -1;
    if (produced != 0 && !PeekSendQueue(into + received, produced)) return -1;
    return static_cast<ssize_t>(received + produced);
  }

 private:
  // Without touching anything: SO_ERROR, for one, would clear what it tells, so poll(2) is asked instead.
  Refusal Judge(int entered, short events) {
    int protocol = 0;
    if (!GetOption(fd_, SOL_SOCKET, SO_PROTOCOL, &protocol)) return kNotTcp;
    if (protocol == IPPROTO_MPTCP) return kMptcp;
    if (protocol != IPPROTO_TCP) return kNotTcp;
    if (!GetOption(fd_, IPPROTO_TCP, TCP_INFO, &info_)) return kCallFailed;
    row_[kState] = info_.tcpi_state;
    if (events & POLLERR) return kSocketError;
    if (!IsFitState(info_.tcpi_state)) return kUnfitState;
    if (events & POLLPRI) return kUrgent;
    char upper_layer[16] = {};
    socklen_t length = sizeof upper_layer;
    if (getsockopt(fd_, IPPROTO_TCP, TCP_ULP, upper_layer, &length) == 0 && length != 0) {
      return std::strcmp(upper_layer, "mptcp") == 0 ? kMptcp : kUpperLayer;
    }
    if (HasAuthentication()) return kAuthenticated;
    int peek_offset = -1;
    if (GetOption(fd_, SOL_SOCKET, SO_PEEK_OFF, &peek_offset) && peek_offset >= 0) return kPeekOffset;
    return entered < 0 ? kNotInRepair : kAccepted;
  }

  static bool IsFitState(int state) {
    return state == kEstablished || state == kFinWait1 || state == kFinWait2 || state == kCloseWait;
  }

  // TCP-AO: without it a socket says ENOENT, a kernel ENOPROTOOPT.
  bool HasAuthentication() {
    if (!shared_->may_have_authentication) return false;
    char figures[128] = {};
    socklen_t length = sizeof figures;
    if (getsockopt(fd_, IPPROTO_TCP, TCP_AO_INFO, figures, &length) == 0) return true;
    shared_->may_have_authentication = errno != ENOPROTOOPT;
    return false;
  }

  // A connection that has both timestamps and SACK was set up without: there is no room for all three.
  // @note tcp_synack_options() and tcp_syn_options() in net/ipv4/tcp_output.c.
  bool MayHaveMd5Key() const {
    constexpr unsigned kBoth = TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK;
    return (info_.tcpi_options & kBoth) != kBoth;
  }

  Refusal ReadFigures() {
    int family = 0;
    uint32_t scope = 0;
    if (!ReadTuple(fd_, tuple_, &family, &scope)) return kCallFailed;
    if (MayHaveMd5Key() && shared_->md5_keys.Has(*tuple_, family)) return kAuthenticated;
    row_[kFamily] = family;
    ReadOptions(fd_, tuple_->CarriesIpv4(), row_, &shared_->names);
    char interface[IF_NAMESIZE];
    row_[kScope] = scope != 0 && if_indextoname(scope, interface) != nullptr ? shared_->names.Add(interface) : -1;
    ReadNegotiated();
    if (!ReadWindow()) return errno == EPERM ? kNotInRepair : kCallFailed;
    return ReadReceiveQueue() ? ReadSendQueue() : kCallFailed;
  }

  void ReadNegotiated() {
    bool scaled = info_.tcpi_options & TCPI_OPT_WSCALE;
    row_[kSendScale] = scaled ? info_.tcpi_snd_wscale : -1;
    row_[kReceiveScale] = scaled ? info_.tcpi_rcv_wscale : -1;
    row_[kSack] = (info_.tcpi_options & TCPI_OPT_SACK) != 0;
    row_[kTimestamps] = (info_.tcpi_options & TCPI_OPT_TIMESTAMPS) != 0;
    uint32_t figure = 0;
    // In repair mode this is what the peer announced, otherwise what the path allows now.
    if (GetOption(fd_, IPPROTO_TCP, TCP_MAXSEG, &figure)) row_[kMss] = figure;
    if (GetOption(fd_, IPPROTO_TCP, TCP_TIMESTAMP, &figure)) row_[kTimestamp] = figure;
  }

  bool ReadWindow() {
    if (shared_->window_length != 0) return ReadWindow(shared_->window_length);
    for (socklen_t length : kWindowLengths) {
      if (ReadWindow(length)) {
        shared_->window_length = length;
        return true;
      }
      if (errno != EINVAL) return false;
    }
    return false;
  }

  bool ReadWindow(socklen_t length) {
    uint32_t words[8] = {};
    if (getsockopt(fd_, IPPROTO_TCP, TCP_REPAIR_WINDOW, words, &length) == -1) return false;
    row_[kWindowBytes] = length;
    for (size_t word = 0; word < length / sizeof(uint32_t); word++) row_[kWindow0 + word] = words[word];
    return true;
  }

  bool ReadSequence(int queue, uint32_t* sequence) {
    return SetOption(fd_, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue) && GetOption(fd_, IPPROTO_TCP, TCP_QUEUE_SEQ, sequence);
  }

  // The sequence number and the length come from different calls: they belong together when the first has not changed, or when the queue
  // is empty after it.
  bool ReadReceiveQueue() {
    uint32_t sequence = 0;
    int bytes = 0;
    if (!ReadSequence(TCP_RECV_QUEUE, &sequence) || ioctl(fd_, SIOCINQ, &bytes) == -1) return false;
    for (int pass = 0; bytes != 0 && pass < kMaxPasses; pass++) {
      uint32_t before = sequence;
      if (!GetOption(fd_, IPPROTO_TCP, TCP_QUEUE_SEQ, &sequence)) return false;
      if (before == sequence) break;
      if (ioctl(fd_, SIOCINQ, &bytes) == -1) return false;
    }
    row_[kReceiveSequence] = sequence;
    row_[kReceiveQueue] = bytes;
    row_[kPeerFin] = info_.tcpi_state == kCloseWait;
    return true;
  }

  Refusal ReadSendQueue() {
    // While the send queue is selected, what is unsent would be taken for sent when the next acknowledgment comes in, and so be lost until
    // the peer asks for it again. @note tcp_write_xmit() in net/ipv4/tcp_output.c
    if (shared_->live && info_.tcpi_notsent_bytes != 0) return kAccepted;
    uint32_t sequence = 0;
    int bytes = 0;
    if (!ReadSequence(TCP_SEND_QUEUE, &sequence) || ioctl(fd_, SIOCOUTQ, &bytes) == -1) return kCallFailed;
    int unsent = static_cast<int>(info_.tcpi_notsent_bytes);
    OwnFin fin = kNoFin;
    if (info_.tcpi_state == kFinWait2) fin = kFinSent;
    if (info_.tcpi_state == kFinWait1) {
      fin = unsent > 0 ? kFinUnsent : kFinSent;
      bytes--;
      if (unsent > 0) unsent--;
    }
    if (bytes < unsent) return kQueueMoved;
    row_[kSendSequence] = sequence;
    row_[kOwnFin] = fin;
    row_[kUnsent] = unsent;
    row_[kSent] = bytes - unsent;
    int zero_copy = 0;
    // Whether the pages of the queue still belong to the application is not told: the queue being empty is.
    bool lent = bytes != 0 && GetOption(fd_, SOL_SOCKET, SO_ZEROCOPY, &zero_copy) && zero_copy != 0;
    return lent ? kZeroCopy : kAccepted;
  }

  ssize_t Peek(int queue, uint8_t* into, size_t length) {
    if (!SetOption(fd_, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)) return -1;
    return RetryInterrupted([&] { return recv(fd_, into, length, MSG_PEEK | MSG_DONTWAIT); });
  }

  bool PeekReceiveQueue(uint8_t* into, size_t length) {
    return Peek(TCP_RECV_QUEUE, into, length) == static_cast<ssize_t>(length);
  }

  // The kernel says how much its segments hold, however little room it is given. That is more than the queue when the first of them is
  // acknowledged in part: the queue is then the end of it.
  bool PeekSendQueue(uint8_t* into, size_t length) {
    ssize_t held = Peek(TCP_SEND_QUEUE, into, length);
    if (held <= static_cast<ssize_t>(length)) return held == static_cast<ssize_t>(length);
    std::vector<uint8_t> whole(static_cast<size_t>(held));
    if (Peek(TCP_SEND_QUEUE, whole.data(), whole.size()) != held) return false;
    std::copy(whole.end() - static_cast<ptrdiff_t>(length), whole.end(), into);
    return true;
  }

  int fd_;
  double* row_;
  Tuple* tuple_;
  Shared* shared_;
  tcp_info info_{};
};

// What tells of an error or of urgent data without taking it away, in one call for all.
std::vector<pollfd> PollAll(const FdList& fds) {
  std::vector<pollfd> entries;
  entries.reserve(fds.size());
  for (int fd : fds) entries.push_back({fd, POLLPRI, 0});
  RetryInterrupted([&] { return poll(entries.data(), entries.size(), 0); });
  return entries;
}

// The bytes of all rows one behind the other. The buffer has room for all; what a row that turns out not to fit took is used again.
Napi::Value CopyAllQueues(Napi::Env env, const FdList& fds, double* rows, bool wanted) {
  double total = 0;
  for (size_t index = 0; wanted && index < fds.size(); index++) {
    const double* row = rows + index * kColumns;
    total += row[kReceiveQueue] + row[kSent] + row[kUnsent];
  }
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, static_cast<size_t>(total));
  if (env.IsExceptionPending()) return {};
  auto* into = static_cast<uint8_t*>(buffer.Data());
  size_t used = 0;
  for (size_t index = 0; total > 0 && index < fds.size(); index++) {
    double* row = rows + index * kColumns;
    if (row[kReceiveQueue] + row[kSent] + row[kUnsent] == 0) continue;
    ssize_t taken = Dump(fds.begin()[index], row, nullptr, nullptr).CopyQueues(into + used);
    if (taken >= 0) {
      used += static_cast<size_t>(taken);
    } else {
      row[kRefusal] = kQueueMoved;
      row[kReceiveQueue] = row[kSent] = row[kUnsent] = 0;
    }
  }
  return Napi::Uint8Array::New(env, used, buffer, 0);
}

// Calls `dump` with each fd's own row, tuple and events.
template <typename DumpOne>
Napi::Value DumpAll(Napi::Env env, const FdList& fds, Shared* shared, bool with_queues, DumpOne dump_one) {
  Napi::Float64Array figures = Napi::Float64Array::New(env, fds.size() * kColumns);
  Napi::Uint8Array tuples = Napi::Uint8Array::New(env, fds.size() * sizeof(Tuple));
  auto* next_tuple = reinterpret_cast<Tuple*>(tuples.Data());
  double* rows = figures.Data();
  std::vector<pollfd> polled = PollAll(fds);
  for (size_t index = 0; index < fds.size(); index++) {
    Dump dump(fds.begin()[index], rows + index * kColumns, next_tuple + index, shared);
    dump_one(&dump, index, polled[index].revents);
  }
  Napi::Value queues = CopyAllQueues(env, fds, rows, with_queues);
  if (env.IsExceptionPending()) return {};

  const std::vector<std::string>& all_names = shared->names.All();
  Napi::Array names = Napi::Array::New(env, all_names.size());
  for (uint32_t index = 0; index < all_names.size(); index++) names.Set(index, all_names[index]);
  Napi::Object result = Napi::Object::New(env);
  result.Set("figures", figures);
  result.Set("tuples", tuples);
  result.Set("names", names);
  result.Set("queues", queues);
  return result;
}

Napi::Value DumpConnections(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fds", Kind::kFds}, {"entered", Kind::kFds}, {"withQueues", Kind::kBoolean}})) return {};
  FdList fds(info[0]);
  FdList entered(info[1]);
  if (fds.size() != entered.size()) return ThrowRange(info.Env(), "The \"entered\" argument must have one number for each of \"fds\"");
  Shared shared;
  return DumpAll(info.Env(), fds, &shared, info[2].As<Napi::Boolean>(), [&](Dump* dump, size_t index, short events) {
    dump->Run(entered.begin()[index], events);
  });
}

// Each is in repair mode for the few microseconds that its own figures take.
Napi::Value GlimpseConnections(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fds", Kind::kFds}})) return {};
  FdList fds(info[0]);
  Shared shared;
  shared.live = true;
  return DumpAll(info.Env(), fds, &shared, false, [&](Dump* dump, size_t index, short events) {
    int fd = fds.begin()[index];
    int entered = EnterRepairMode(fd);
    dump->Run(entered, events);
    LeaveRepairMode(fd, entered, false);
  });
}

// A socket that has no two ends has zeros, which match no packet.
Napi::Value ConnectionTuples(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fds", Kind::kFds}})) return {};
  FdList fds(info[0]);
  Napi::Uint8Array tuples = Napi::Uint8Array::New(info.Env(), fds.size() * sizeof(Tuple));
  auto* next = reinterpret_cast<Tuple*>(tuples.Data());
  for (int fd : fds) {
    int family;
    uint32_t scope;
    if (!ReadTuple(fd, next, &family, &scope)) *next = {};
    next++;
  }
  return tuples;
}

}  // namespace

void InitTcpDump(Napi::Env env, Napi::Object exports) {
  Export<DumpConnections>(env, exports, "dumpConnections");
  Export<GlimpseConnections>(env, exports, "glimpseConnections");
  Export<ConnectionTuples>(env, exports, "connectionTuples");
}

}  // namespace tsunagi
