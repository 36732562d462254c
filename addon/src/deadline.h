#pragma once

#include <cerrno>
#include <poll.h>
#include <time.h>

namespace tsunagi {

// EINTR is the only failure that is retried anywhere in this addon.
template <typename SystemCall>
auto RetryInterrupted(SystemCall call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

// An absolute end on the monotonic clock, so that interrupted and partial calls do not lengthen a wait.
class Deadline {
 public:
  // `timeout_ms` -1 never ends.
  explicit Deadline(double timeout_ms) : endless_(timeout_ms == -1) {
    if (!endless_) end_ns_ = NowNs() + static_cast<long long>(timeout_ms * 1e6);
  }

  bool Endless() const { return endless_; }

  // What is left; zero once it is over. Not meaningful when endless.
  timespec Remaining() const {
    long long left = end_ns_ - NowNs();
    if (left < 0) left = 0;
    return {static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
  }

  bool Over() const { return !endless_ && NowNs() >= end_ns_; }

 private:
  static long long NowNs() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
  }

  bool endless_;
  long long end_ns_ = 0;
};

// poll(2) until the deadline: the number of ready entries, 0 when it is over, -1 with errno.
inline int PollUntil(pollfd* entries, nfds_t count, const Deadline& deadline) {
  return RetryInterrupted([&] {
    if (deadline.Endless()) return ppoll(entries, count, nullptr, nullptr);
    timespec remaining = deadline.Remaining();
    return ppoll(entries, count, &remaining, nullptr);
  });
}

// Waits until one descriptor has `events`: 0 or an errno (ETIMEDOUT, EBADF). A hang-up or error counts: the next call reports it.
inline int WaitFor(int fd, short events, const Deadline& deadline) {
  pollfd entry{fd, events, 0};
  int ready = PollUntil(&entry, 1, deadline);
  if (ready == -1) return errno;
  if (ready == 0) return ETIMEDOUT;
  return (entry.revents & POLLNVAL) ? EBADF : 0;
}

}  // namespace tsunagi
