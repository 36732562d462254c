// Bytes and file descriptors over a connected unix stream socket, waiting in this thread up to a deadline.

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "deadline.h"
#include "napi_error.h"
#include "unique_fd.h"

namespace tsunagi {
namespace {

// One below the kernel's SCM_MAX_FD (include/net/scm.h: 253), which is what a receiver must have room for.
constexpr size_t kMaxSentFds = 252;
constexpr size_t kMaxReceivedFds = 253;

// The parts of a message that are still to be sent; the bytes stay where JavaScript has them.
class Pending {
 public:
  void Add(void* data, size_t length) {
    if (length != 0) parts_.push_back({data, length});
  }
  bool Empty() const { return next_ == parts_.size(); }
  iovec* Parts() { return &parts_[next_]; }
  size_t Count() const { return std::min<size_t>(parts_.size() - next_, IOV_MAX); }
  void Advance(size_t bytes) {
    while (bytes != 0) {
      iovec& part = parts_[next_];
      size_t taken = std::min(bytes, part.iov_len);
      part.iov_base = static_cast<char*>(part.iov_base) + taken;
      part.iov_len -= taken;
      bytes -= taken;
      if (part.iov_len == 0) next_++;
    }
  }

 private:
  std::vector<iovec> parts_;
  size_t next_ = 0;
};

union SendControl {
  cmsghdr align;
  char bytes[CMSG_SPACE(kMaxSentFds * sizeof(int))];
};

union ReceiveControl {
  cmsghdr align;
  char bytes[CMSG_SPACE(kMaxReceivedFds * sizeof(int))];
};

void AttachFds(msghdr* message, SendControl* control, const FdList& fds) {
  size_t length = fds.size() * sizeof(int);
  message->msg_control = control->bytes;
  message->msg_controllen = CMSG_SPACE(length);
  cmsghdr* header = CMSG_FIRSTHDR(message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(length);
  std::memcpy(CMSG_DATA(header), fds.begin(), length);
}

// 0 or an errno. The descriptors go with the first part that the kernel takes, and only with that.
int SendAll(int fd, Pending pending, const FdList& fds, const Deadline& deadline) {
  SendControl control{};
  bool fds_sent = fds.size() == 0;
  while (!pending.Empty()) {
    msghdr message{};
    message.msg_iov = pending.Parts();
    message.msg_iovlen = pending.Count();
    if (!fds_sent) AttachFds(&message, &control, fds);
    ssize_t sent = RetryInterrupted([&] { return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT); });
    if (sent >= 0) {
      fds_sent = true;
      pending.Advance(static_cast<size_t>(sent));
      continue;
    }
    if (errno != EAGAIN && errno != EWOULDBLOCK) return errno;
    if (int error = WaitFor(fd, POLLOUT, deadline)) return error;
  }
  return 0;
}

// False with a TypeError pending when an element is not a Uint8Array.
bool ToPending(Napi::Env env, const Napi::Array& chunks, Pending* pending) {
  for (uint32_t index = 0; index < chunks.Length(); index++) {
    Napi::HandleScope scope(env);
    Napi::Value chunk = chunks[index];
    if (!IsBytes(chunk)) {
      ThrowType(env, "ERR_INVALID_ARG_TYPE", "The \"chunks\" argument must hold only Uint8Arrays");
      return false;
    }
    Napi::Uint8Array bytes = chunk.As<Napi::Uint8Array>();
    pending->Add(bytes.Data(), bytes.ByteLength());
  }
  return true;
}

Napi::Value SendMessage(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"fd", Kind::kFd}, {"chunks", Kind::kArray}, {"fds", Kind::kFds}, {"timeoutMs", Kind::kTimeout}})) {
    return {};
  }
  FdList fds(info[2]);
  if (fds.size() > kMaxSentFds) return ThrowRange(env, "The \"fds\" argument must hold at most 252 descriptors");
  Pending pending;
  if (!ToPending(env, info[1].As<Napi::Array>(), &pending)) return {};
  if (pending.Empty()) {
    return ThrowType(env, "ERR_INVALID_ARG_VALUE", "The \"chunks\" argument must hold at least one byte");
  }
  Deadline deadline(info[3].As<Napi::Number>());
  int error = SendAll(info[0].As<Napi::Number>(), std::move(pending), fds, deadline);
  if (error != 0) return ThrowErrno(env, error, "sendmsg");
  return env.Undefined();
}

std::vector<UniqueFd> TakeFds(msghdr* message) {
  std::vector<UniqueFd> fds;
  for (cmsghdr* header = CMSG_FIRSTHDR(message); header != nullptr; header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < count; index++) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + index * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return fds;
}

struct Received {
  int error = 0;
  size_t bytes = 0;
  std::vector<UniqueFd> fds;
};

// EAGAIN is an error here.
Received ReceiveNow(int fd, void* into, size_t length, int flags) {
  Received received;
  ReceiveControl control;
  iovec part{into, length};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  ssize_t bytes = RetryInterrupted([&] { return recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC | MSG_DONTWAIT); });
  if (bytes == -1) {
    received.error = errno == EWOULDBLOCK ? EAGAIN : errno;
    return received;
  }
  received.bytes = static_cast<size_t>(bytes);
  received.fds = TakeFds(&message);
  if (message.msg_flags & MSG_CTRUNC) received.error = EMFILE;
  return received;
}

Received ReceiveOnce(int fd, void* into, size_t length, const Deadline& deadline) {
  for (;;) {
    Received received = ReceiveNow(fd, into, length, 0);
    if (received.error != EAGAIN) return received;
    received.error = WaitFor(fd, POLLIN, deadline);
    if (received.error != 0) return received;
  }
}

Napi::Array ToArray(Napi::Env env, std::vector<UniqueFd>* fds) {
  Napi::Array array = Napi::Array::New(env, fds->size());
  for (uint32_t index = 0; index < fds->size(); index++) array.Set(index, (*fds)[index].Release());
  return array;
}

Napi::Value ReceiveMessage(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"fd", Kind::kFd}, {"into", Kind::kBytes}, {"timeoutMs", Kind::kTimeout}})) return {};
  Napi::Uint8Array into = info[1].As<Napi::Uint8Array>();
  // Reading into nothing returns 0, which would look like the end of the stream.
  if (into.ByteLength() == 0) return ThrowType(env, "ERR_INVALID_ARG_VALUE", "The \"into\" argument must have room for a byte");
  Deadline deadline(info[2].As<Napi::Number>());
  Received received = ReceiveOnce(info[0].As<Napi::Number>(), into.Data(), into.ByteLength(), deadline);
  if (received.error != 0) return ThrowErrno(env, received.error, "recvmsg");

  Napi::Object result = Napi::Object::New(env);
  result.Set("bytes", Napi::Number::New(env, static_cast<double>(received.bytes)));
  result.Set("fds", ToArray(env, &received.fds));
  return result;
}

// The offset at which a peek looks belongs to the socket, whoever has a descriptor of it: an earlier process may have moved it.
Napi::Value PeekFds(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"fd", Kind::kFd}})) return {};
  int fd = info[0].As<Napi::Number>();
  int start = 0;
  if (setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &start, sizeof start) == -1) return ThrowErrno(env, errno, "setsockopt");
  std::vector<UniqueFd> fds;
  for (;;) {
    char byte;
    Received received = ReceiveNow(fd, &byte, 1, MSG_PEEK);
    if (received.error == EAGAIN || (received.error == 0 && received.bytes == 0)) return ToArray(env, &fds);
    if (received.error != 0) return ThrowErrno(env, received.error, "recvmsg");
    std::move(received.fds.begin(), received.fds.end(), std::back_inserter(fds));
  }
}

Napi::Value PollReadable(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"fds", Kind::kFds}, {"timeoutMs", Kind::kTimeout}})) return {};
  std::vector<pollfd> entries;
  for (int fd : FdList(info[0])) entries.push_back({fd, POLLIN | POLLRDHUP, 0});
  if (PollUntil(entries.data(), entries.size(), Deadline(info[1].As<Napi::Number>())) == -1) {
    return ThrowErrno(env, errno, "poll");
  }
  Napi::Array ready = Napi::Array::New(env);
  uint32_t count = 0;
  for (uint32_t index = 0; index < entries.size(); index++) {
    if (entries[index].revents != 0) ready.Set(count++, index);
  }
  return ready;
}

}  // namespace

void InitFdChannel(Napi::Env env, Napi::Object exports) {
  Export<SendMessage>(env, exports, "sendMessage");
  Export<ReceiveMessage>(env, exports, "receiveMessage");
  Export<PeekFds>(env, exports, "peekFds");
  Export<PollReadable>(env, exports, "pollReadable");
}

}  // namespace tsunagi
