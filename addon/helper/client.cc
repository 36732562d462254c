#include "client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "src/deadline.h"
#include "src/repair_mode.h"

namespace tsunagi {
namespace {

constexpr size_t kPiece = 65536;

template <typename Item>
void Append(std::vector<uint8_t>* bytes, const std::vector<Item>& items) {
  const auto* data = reinterpret_cast<const uint8_t*>(items.data());
  bytes->insert(bytes->end(), data, data + items.size() * sizeof(Item));
}

template <typename Item>
std::vector<Item> Take(const uint8_t** from, size_t count) {
  std::vector<Item> items(count);
  if (count != 0) memcpy(static_cast<void*>(items.data()), *from, count * sizeof(Item));
  *from += count * sizeof(Item);
  return items;
}

int PortOf(const Tuple& tuple) { return tuple.local.port[0] << 8 | tuple.local.port[1]; }

}  // namespace

bool Client::Serve() {
  if (!Receive()) return false;
  for (;;) {
    ssize_t length = RequestBytes();
    if (length == -1) return false;
    if (length == 0 || bytes_.size() < static_cast<size_t>(length)) return true;
    // One that does not wait for its answer: descriptors could no longer be told apart.
    if (bytes_.size() > static_cast<size_t>(length) || !Perform()) return false;
    bytes_.clear();
    received_.clear();
  }
}

bool Client::Receive() {
  size_t had = bytes_.size();
  bytes_.resize(had + kPiece);
  iovec piece{&bytes_[had], kPiece};
  alignas(cmsghdr) char control[CMSG_SPACE((kMaxFds + 1) * sizeof(int))];
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t bytes = RetryInterrupted([&] { return recvmsg(fd_.Get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC); });
  bytes_.resize(had + static_cast<size_t>(bytes > 0 ? bytes : 0));
  if (bytes == -1) return errno == EAGAIN;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < count; index++) {
      int fd;
      memcpy(&fd, CMSG_DATA(header) + index * sizeof fd, sizeof fd);
      received_.emplace_back(fd);
    }
  }
  return bytes != 0 && !(message.msg_flags & MSG_CTRUNC) && received_.size() <= kMaxFds;
}

ssize_t Client::RequestBytes() const {
  if (bytes_.size() < sizeof(Request)) return 0;
  Request request;
  memcpy(&request, bytes_.data(), sizeof request);
  bool about_fds = request.operation == kEnter || request.operation == kLeave;
  if (request.protocol != kProtocol || request.numbers > (about_fds ? kMaxFds : kMaxPorts) || request.tuples > kMaxTuples) return -1;
  size_t numbers = request.operation == kEnter ? 0 : request.numbers;
  return static_cast<ssize_t>(sizeof request + numbers * sizeof(int32_t) + request.tuples * sizeof(Tuple));
}

bool Client::Perform() {
  Request request;
  memcpy(&request, bytes_.data(), sizeof request);
  const uint8_t* rest = bytes_.data() + sizeof request;
  Numbers given;
  given.numbers = Take<int32_t>(&rest, request.operation == kEnter ? 0 : request.numbers);
  given.tuples = Take<Tuple>(&rest, request.tuples);
  Numbers result;
  int error = Do(request, given, &result);
  return Reply(error, result);
}

int Client::Do(const Request& request, const Numbers& given, Numbers* result) {
  bool about_fds = request.operation == kEnter || request.operation == kLeave;
  if (received_.size() != (about_fds ? request.numbers : 0)) return EINVAL;
  switch (request.operation) {
    case kEnter:
      for (const UniqueFd& fd : received_) result->numbers.push_back(EnterRepairMode(fd.Get()));
      return 0;
    case kLeave:
      for (size_t index = 0; index < received_.size(); index++) {
        result->numbers.push_back(LeaveRepairMode(received_[index].Get(), given.numbers[index], request.argument == 1));
      }
      return 0;
    case kHoldCreate: {
      int error = holds_->Create();
      result->numbers.push_back(error == 0);
      return error == EEXIST ? 0 : error;
    }
    case kHoldAdd:
    case kHoldRelease:
      return Hold(request, given, result);
    case kHoldList:
      return List(result);
  }
  return EINVAL;
}

int Client::Hold(const Request& request, const Numbers& given, Numbers* result) {
  for (int port : given.numbers) {
    if (!ports_->Include(port)) return EACCES;
  }
  for (const Tuple& tuple : given.tuples) {
    if (!ports_->Include(PortOf(tuple))) return EACCES;
  }
  HoldKeys keys = ToHoldKeys(given.numbers.data(), given.numbers.size(), given.tuples.data(), given.tuples.size());
  if (request.operation == kHoldAdd) {
    if (request.argument == 0 || request.argument > kMaxHoldMs) return EINVAL;
    return holds_->Add(keys, request.argument);
  }
  size_t released = 0;
  int error = holds_->Release(keys, &released);
  result->numbers.push_back(static_cast<int32_t>(released));
  return error;
}

// Ports, their times, the times of the connections: the connections themselves come behind all numbers.
int Client::List(Numbers* result) {
  HeldKeys held;
  if (int error = holds_->List(&held)) return error;
  for (const auto& [key, left] : held[kHeldPorts]) result->numbers.push_back(ToPort(key));
  for (const auto& [key, left] : held[kHeldPorts]) result->numbers.push_back(static_cast<int32_t>(left));
  for (HoldSetNumber number : {kHeldIpv4, kHeldIpv6}) {
    for (const auto& [key, left] : held[number]) {
      result->tuples.push_back(ToTuple(key, number == kHeldIpv4));
      result->numbers.push_back(static_cast<int32_t>(left));
    }
  }
  return 0;
}

bool Client::Reply(int error, const Numbers& result) {
  Answer answer{error, static_cast<uint32_t>(result.numbers.size()), static_cast<uint32_t>(result.tuples.size())};
  std::vector<uint8_t> bytes(sizeof answer);
  memcpy(bytes.data(), &answer, sizeof answer);
  Append(&bytes, result.numbers);
  Append(&bytes, result.tuples);
  // One client that does not read must not keep the others waiting for long.
  Deadline deadline(1000);
  for (size_t sent = 0; sent < bytes.size();) {
    ssize_t now = RetryInterrupted([&] { return send(fd_.Get(), &bytes[sent], bytes.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT); });
    if (now >= 0) {
      sent += static_cast<size_t>(now);
    } else if (errno != EAGAIN || WaitFor(fd_.Get(), POLLOUT, deadline) != 0) {
      return false;
    }
  }
  return true;
}

}  // namespace tsunagi
