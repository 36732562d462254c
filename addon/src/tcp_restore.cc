// restoreConnections(): connections out of data, as sockets in repair mode, while a packet hold keeps the network away from them.
// The order is that of the kernel's conditions: repair mode before bind (it shares the port), options and buffers before connect (nothing
// may be sent, and the window is derived from them), sequence numbers before connect (they can be set in a closed socket only), what was
// negotiated after connect and before any byte (it can be set only then), the window after the queues.

// It cannot be in one file with netinet/tcp.h, hence not with uv.h.
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "addon.h"
#include "arguments.h"
#include "connection_record.h"
#include "deadline.h"
#include "inject.h"
#include "napi_error.h"
#include "socket_options.h"
#include "unique_fd.h"

namespace tsunagi {
namespace {

// repair.ts RESTORE_STEPS, in its order: where an errno comes from.
enum Step {
  kNoStep,
  kSocketStep,
  kEnterStep,
  kBindStep,
  kSequenceStep,
  kConnectStep,
  kNegotiatedStep,
  kTimestampStep,
  kReceiveQueueStep,
  kSendQueueStep,
  kShutdownStep,
  kWindowStep,
  kLastStep,
};

// Columns of repair.ts RESTORED_COLUMN, in its order.
struct Restored {
  double fd = -1;
  double error = 0;
  double step = kNoStep;
  double state = 0;
  double receive_queue = 0;
  double sent = 0;
  double options_refused = 0;
};
constexpr size_t kRestoredColumns = sizeof(Restored) / sizeof(double);
static_assert(kRestoredColumns == 7, "RESTORED_COLUMNS in repair.ts");

// The kernel takes a piece in one allocation when it can; without memory a smaller one may do.
constexpr size_t kLargestPiece = 1 << 20;
constexpr size_t kSmallestPiece = 1024;

// Words of struct tcp_repair_window, and its length in every kernel that has it.
constexpr size_t kPeerWindow = offsetof(tcp_repair_window, snd_wnd) / sizeof(uint32_t);
constexpr size_t kWindowSize = offsetof(tcp_repair_window, rcv_wnd) / sizeof(uint32_t);
constexpr size_t kWindowEdge = offsetof(tcp_repair_window, rcv_wup) / sizeof(uint32_t);
constexpr socklen_t kShortestWindow = 5 * sizeof(uint32_t);

// RFC 9293 and RFC 2018, the kinds of the options that TCP_REPAIR_OPTIONS takes.
enum TcpOptionKind { kMssOption = 2, kScaleOption = 3, kSackOption = 4, kTimestampsOption = 8 };

// What the rows of one call share.
struct Shared {
  Names names;
  Injector injector;
  bool inject;
  std::optional<OptionDefaults> ipv4;
  std::optional<OptionDefaults> ipv6;

  const OptionDefaults* DefaultsOf(int family) {
    std::optional<OptionDefaults>& defaults = family == AF_INET6 ? ipv6 : ipv4;
    if (!defaults && !defaults.emplace().Read(family)) defaults.reset();
    return defaults ? &*defaults : nullptr;
  }
};

class Restoration {
 public:
  Restoration(const double* row, const Tuple& tuple, const uint8_t* queues, Shared* shared)
      : row_(row), tuple_(tuple), queues_(queues), shared_(shared) {}

  // Into a fresh socket that somebody else has put into repair mode.
  void Use(int fd) {
    fd_.Reset(fd);
    given_ = true;
  }

  Restored Run() {
    family_ = row_[kFamily] == AF_INET6 ? AF_INET6 : AF_INET;
    own_fin_sent_ = row_[kOwnFin] == kFinSent;
    peer_fin_ = row_[kPeerFin] == 1;
    // Without CAP_NET_RAW the end of the peer's stream is not in the socket: `state` says so.
    injects_ = shared_->inject && (peer_fin_ || row_[kState] == kFinWait2) && shared_->injector.Open(tuple_.CarriesIpv4()) == 0;
    bool done = Build(static_cast<size_t>(row_[kReceiveQueue]));
    // A buffer as large as the saved queue is not to be had everywhere: then its bytes are left to the caller.
    // A given socket has had its only try.
    if (!done && step_ == kReceiveQueueStep && !given_) done = Build(0);
    if (!done) {
      restored_.error = errno;
      restored_.step = step_;
      return restored_;
    }
    RestoreBufferLock(fd_.Get(), row_);
    if (injects_) InjectPeer();
    restored_.state = ReadState();
    restored_.fd = fd_.Release();
    return restored_;
  }

 private:
  // False with errno and step_. A socket of an attempt before is closed first, silently, as it is in repair mode.
  bool Build(size_t receive_queue) {
    restored_ = {};
    return Open() && Bind() && SetSequences(receive_queue) && Connect() && SetNegotiated() && FillReceiveQueue(receive_queue) &&
           FillSendQueue() && SetWindow() && At(kLastStep, SelectQueue(TCP_NO_QUEUE));
  }

  bool At(Step step, bool done) {
    if (!done) step_ = step;
    return done;
  }

  bool Set(int option, int value) { return SetOption(fd_.Get(), IPPROTO_TCP, option, value); }
  bool SelectQueue(int queue) { return Set(TCP_REPAIR_QUEUE, queue); }

  bool Open() {
    if (!given_) fd_.Reset(socket(family_, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
    const OptionDefaults* defaults = shared_->DefaultsOf(family_);
    if (!fd_ || defaults == nullptr) return At(kSocketStep, false);
    if (!(given_ ? IsInRepair() : Set(TCP_REPAIR, TCP_REPAIR_ON))) return At(kEnterStep, false);
    restored_.options_refused = WriteOptions(fd_.Get(), tuple_.CarriesIpv4(), row_, shared_->names, *defaults);
    WriteBuffers(fd_.Get(), row_, *defaults);
    return true;
  }

  // Outside of it connecting would speak to the peer.
  bool IsInRepair() {
    int repair = 0;
    if (!GetOption(fd_.Get(), IPPROTO_TCP, TCP_REPAIR, &repair)) return false;
    if (repair != 1) errno = EPERM;
    return repair == 1;
  }

  uint32_t Scope() const {
    std::string interface = shared_->names.At(row_[kScope]);
    return interface.empty() ? 0 : if_nametoindex(interface.c_str());
  }

  bool Bind() {
    sockaddr_storage local;
    socklen_t length = ToSockaddr(tuple_.local, family_, Scope(), &local);
    return At(kBindStep, bind(fd_.Get(), reinterpret_cast<sockaddr*>(&local), length) == 0);
  }

  // The numbers of the first byte in each queue. A FIN that shutdown() or an injected segment will bring back is not counted yet; the
  // peer's FIN that nobody brings back is, so that what we acknowledge is right.
  bool SetSequences(size_t receive_queue) {
    uint32_t produced = Unsigned(row_[kSent]) + Unsigned(row_[kUnsent]) + (row_[kOwnFin] != kNoFin);
    uint32_t received = static_cast<uint32_t>(receive_queue) + InjectsFin();
    return At(kSequenceStep,
              SelectQueue(TCP_SEND_QUEUE) &&
                  SetOption(fd_.Get(), IPPROTO_TCP, TCP_QUEUE_SEQ, Unsigned(row_[kSendSequence]) - produced) &&
                  SelectQueue(TCP_RECV_QUEUE) &&
                  SetOption(fd_.Get(), IPPROTO_TCP, TCP_QUEUE_SEQ, Unsigned(row_[kReceiveSequence]) - received));
  }

  // In repair mode it sends nothing and is established at once.
  bool Connect() {
    sockaddr_storage peer;
    socklen_t length = ToSockaddr(tuple_.peer, family_, Scope(), &peer);
    return At(kConnectStep, connect(fd_.Get(), reinterpret_cast<sockaddr*>(&peer), length) == 0);
  }

  bool SetNegotiated() {
    tcp_repair_opt options[4];
    size_t count = 0;
    options[count++] = {kMssOption, Unsigned(row_[kMss])};
    if (row_[kSendScale] >= 0) {
      options[count++] = {kScaleOption, Unsigned(row_[kSendScale]) | Unsigned(row_[kReceiveScale]) << 16};
    }
    if (row_[kSack] == 1) options[count++] = {kSackOption, 0};
    if (row_[kTimestamps] == 1) options[count++] = {kTimestampsOption, 0};
    auto length = static_cast<socklen_t>(count * sizeof options[0]);
    if (setsockopt(fd_.Get(), IPPROTO_TCP, TCP_REPAIR_OPTIONS, options, length) == -1) return At(kNegotiatedStep, false);
    if (row_[kTimestamps] != 1) return true;
    // One step further than the last one the peer can have seen; the lowest bit is no time but the unit.
    return At(kTimestampStep, SetOption(fd_.Get(), IPPROTO_TCP, TCP_TIMESTAMP, Unsigned(row_[kTimestamp]) + 2));
  }

  // How many of the bytes the selected queue took; less than all with errno.
  size_t Fill(const uint8_t* data, size_t length) {
    size_t taken = 0;
    size_t piece = kLargestPiece;
    while (taken < length) {
      size_t wanted = std::min(piece, length - taken);
      ssize_t sent = RetryInterrupted([&] { return send(fd_.Get(), data + taken, wanted, MSG_NOSIGNAL | MSG_DONTWAIT); });
      if (sent > 0) {
        taken += static_cast<size_t>(sent);
      } else if (sent == -1 && (errno == ENOMEM || errno == ENOBUFS) && piece > kSmallestPiece) {
        piece /= 2;
      } else {
        break;
      }
    }
    return taken;
  }

  bool FillReceiveQueue(size_t length) {
    restored_.receive_queue = static_cast<double>(length);
    return At(kReceiveQueueStep, Fill(queues_, length) == length);
  }

  // Only what had been transmitted: the rest would be taken for transmitted too. What does not fit is left to the caller, who writes
  // it before the unsent rest; but our FIN could then not follow.
  bool FillSendQueue() {
    auto length = static_cast<size_t>(row_[kSent]);
    if (length == 0 && !own_fin_sent_) return true;
    if (!SelectQueue(TCP_SEND_QUEUE)) return At(kSendQueueStep, false);
    size_t taken = Fill(queues_ + static_cast<size_t>(row_[kReceiveQueue]), length);
    restored_.sent = static_cast<double>(taken);
    if (taken < length && (own_fin_sent_ || errno != EAGAIN)) return At(kSendQueueStep, false);
    // In repair mode this queues a FIN as transmitted.
    return !own_fin_sent_ || At(kShutdownStep, shutdown(fd_.Get(), SHUT_WR) == 0);
  }

  bool SetWindow() {
    uint32_t words[8];
    for (size_t word = 0; word < 8; word++) words[word] = Unsigned(row_[kWindow0 + word]);
    if (InjectsFin()) {
      words[kWindowEdge]--;
      words[kWindowSize]++;
    }
    socklen_t length = std::min<socklen_t>(Unsigned(row_[kWindowBytes]), sizeof words);
    if (setsockopt(fd_.Get(), IPPROTO_TCP, TCP_REPAIR_WINDOW, words, length) == 0) return true;
    // Saved by a newer kernel than this one.
    bool retry = errno == EINVAL && length > kShortestWindow;
    return At(kWindowStep, retry && setsockopt(fd_.Get(), IPPROTO_TCP, TCP_REPAIR_WINDOW, words, kShortestWindow) == 0);
  }

  bool InjectsFin() const { return injects_ && peer_fin_; }

  // The peer's FIN, or in FIN_WAIT2 its acknowledgment of ours. Whether it arrived, the state tells.
  void InjectPeer() {
    uint32_t received = Unsigned(row_[kReceiveSequence]);
    uint32_t produced = Unsigned(row_[kSendSequence]);
    uint32_t unacknowledged = Unsigned(row_[kSent]) + Unsigned(row_[kUnsent]);
    uint32_t window = Unsigned(row_[kWindow0 + kPeerWindow]) >> std::min(Unsigned(std::max(row_[kSendScale], 0.0)), 14u);
    Segment segment{received, produced, static_cast<uint16_t>(std::min<uint32_t>(window, UINT16_MAX)), false};
    if (peer_fin_) segment = {received - 1, produced - unacknowledged, segment.window, true};
    shared_->injector.Inject(tuple_, Scope(), segment);
  }

  double ReadState() {
    if (!peer_fin_ && !own_fin_sent_) return kEstablished;
    tcp_info info{};
    return GetOption(fd_.Get(), IPPROTO_TCP, TCP_INFO, &info) ? info.tcpi_state : 0;
  }

  const double* row_;
  const Tuple& tuple_;
  const uint8_t* queues_;
  Shared* shared_;
  UniqueFd fd_;
  bool given_ = false;
  Restored restored_;
  Step step_ = kNoStep;
  int family_ = AF_INET;
  bool own_fin_sent_ = false;
  bool peer_fin_ = false;
  bool injects_ = false;
};

// The length of what a row says its queues hold, or -1.
double QueueBytes(const double* row) {
  double bytes = 0;
  for (Column column : {kReceiveQueue, kSent, kUnsent}) {
    double length = row[column];
    if (!(length >= 0 && length <= INT32_MAX && std::trunc(length) == length)) return -1;
    bytes += length;
  }
  return bytes;
}

// Before any socket exists, so that a damaged record makes none.
bool LengthsAgree(const double* rows, size_t count, size_t tuple_bytes, size_t queue_bytes) {
  double total = 0;
  for (size_t index = 0; index < count; index++) {
    double bytes = QueueBytes(rows + index * kColumns);
    if (bytes < 0) return false;
    total += bytes;
  }
  return tuple_bytes == count * sizeof(Tuple) && total == static_cast<double>(queue_bytes);
}

// `fds` null: this process makes the sockets and may put them into repair mode itself.
Napi::Value RestoreAll(const Napi::CallbackInfo& info, const FdList* fds, bool inject) {
  Napi::Env env = info.Env();
  Napi::Array given = info[2].As<Napi::Array>();
  std::vector<std::string> names;
  for (uint32_t index = 0; index < given.Length(); index++) names.push_back(given.Get(index).ToString());
  if (env.IsExceptionPending()) return {};
  Napi::Float64Array figures = info[0].As<Napi::Float64Array>();
  Napi::Uint8Array tuple_bytes = info[1].As<Napi::Uint8Array>();
  Napi::Uint8Array queues = info[3].As<Napi::Uint8Array>();
  size_t count = figures.ElementLength() / kColumns;
  if (figures.ElementLength() % kColumns != 0 || (fds != nullptr && fds->size() != count) ||
      !LengthsAgree(figures.Data(), count, tuple_bytes.ByteLength(), queues.ByteLength())) {
    return ThrowRange(env, "The arguments must be of the same connections");
  }
  Shared shared{Names(std::move(names)), {}, inject, {}, {}};

  Napi::Float64Array results = Napi::Float64Array::New(env, count * kRestoredColumns);
  double* next = results.Data();
  const auto* tuples = reinterpret_cast<const Tuple*>(tuple_bytes.Data());
  const uint8_t* bytes = queues.Data();
  for (size_t index = 0; index < count; index++) {
    const double* row = figures.Data() + index * kColumns;
    Restoration restoration(row, tuples[index], bytes, &shared);
    if (fds != nullptr) restoration.Use(fds->begin()[index]);
    Restored restored;
    if (row[kRefusal] == kAccepted) restored = restoration.Run();
    std::memcpy(next, &restored, sizeof restored);
    next += kRestoredColumns;
    bytes += static_cast<size_t>(QueueBytes(row));
  }
  return results;
}

Napi::Value RestoreConnections(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"figures", Kind::kNumbers},
                     {"tuples", Kind::kBytes},
                     {"names", Kind::kArray},
                     {"queues", Kind::kBytes},
                     {"inject", Kind::kBoolean}})) {
    return {};
  }
  return RestoreAll(info, nullptr, info[4].As<Napi::Boolean>());
}

Napi::Value RestoreInto(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"figures", Kind::kNumbers},
                     {"tuples", Kind::kBytes},
                     {"names", Kind::kArray},
                     {"queues", Kind::kBytes},
                     {"fds", Kind::kFds}})) {
    return {};
  }
  FdList fds(info[4]);
  return RestoreAll(info, &fds, false);
}

}  // namespace

void InitTcpRestore(Napi::Env env, Napi::Object exports) {
  Export<RestoreConnections>(env, exports, "restoreConnections");
  Export<RestoreInto>(env, exports, "restoreInto");
}

}  // namespace tsunagi
