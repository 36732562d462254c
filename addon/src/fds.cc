// File descriptors of this process as such: closing, duplicating, and how many there may be.

#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>

#include "addon.h"
#include "arguments.h"
#include "deadline.h"
#include "napi_error.h"
#include "unique_fd.h"

namespace tsunagi {
namespace {

constexpr char kOwnFds[] = "/proc/self/fd";

Napi::Value CloseFds(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fds", Kind::kFds}})) return {};
  uint32_t closed = 0;
  for (int fd : FdList(info[0])) {
    // After EINTR the number is free all the same.
    if (close(fd) == 0 || errno == EINTR) closed++;
  }
  return Napi::Number::New(info.Env(), closed);
}

Napi::Value DuplicateFd(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fd", Kind::kFd}})) return {};
  int fd = fcntl(info[0].As<Napi::Number>(), F_DUPFD_CLOEXEC, 0);
  if (fd == -1) return ThrowErrno(info.Env(), errno, "fcntl");
  return Napi::Number::New(info.Env(), fd);
}

// From here on no client begins a handshake on this listener: a filter of the socket drops what has SYN and not ACK. Handshakes under way are
// finished, and the backlog is left alone. Needs no privilege.
// @note socket(7) SO_ATTACH_FILTER. net/ipv4/tcp_ipv4.c tcp_v4_rcv() (Linux 6.18) filters with the data at the TCP header, for a listener too.
Napi::Value DropSyns(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fd", Kind::kFd}})) return {};
  constexpr uint32_t kFlagsAt = 13;
  constexpr uint32_t kSyn = 0x02;
  constexpr uint32_t kSynAck = 0x12;
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kFlagsAt),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, kSynAck),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kSyn, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, std::numeric_limits<uint32_t>::max()),
  };
  sock_fprog program{static_cast<unsigned short>(std::size(code)), code};
  if (setsockopt(info[0].As<Napi::Number>(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == -1)
    return ThrowErrno(info.Env(), errno, "setsockopt");
  return info.Env().Undefined();
}

// Putting a descriptor at the highest wanted number for a moment makes the kernel allocate the table.
// @note expand_fdtable() in fs/file.c (Linux 6.18) waits with synchronize_rcu() at each doubling in a process with threads.
Napi::Value GrowFdTable(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"count", Kind::kCount}})) return {};
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == -1) return ThrowErrno(env, errno, "getrlimit");
  rlim_t count = std::min<rlim_t>(info[0].As<Napi::Number>().Uint32Value(), limit.rlim_cur);
  if (count == 0) return env.Undefined();
  UniqueFd any(eventfd(0, EFD_CLOEXEC));
  // EMFILE, here and below: every number is taken, so the table is as large as it can get.
  if (!any) return errno == EMFILE ? env.Undefined() : ThrowErrno(env, errno, "eventfd");
  UniqueFd highest(fcntl(any.Get(), F_DUPFD_CLOEXEC, static_cast<int>(count - 1)));
  if (!highest && errno != EMFILE) return ThrowErrno(env, errno, "fcntl");
  return env.Undefined();
}

// @note tcp_close() in net/ipv4/tcp.c: bytes in the receive queue turn FIN into RST. With MSG_TRUNC a TCP socket drops them without copying (tcp(7)).
Napi::Value EndConnections(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fds", Kind::kFds}})) return {};
  constexpr size_t kMost = 1 << 20;
  for (int fd : FdList(info[0])) {
    for (int round = 0; round < 16 && recv(fd, nullptr, kMost, MSG_TRUNC | MSG_DONTWAIT) > 0; round++) continue;
    shutdown(fd, SHUT_WR);
  }
  return info.Env().Undefined();
}

// A connection, or a listener, ends although other processes hold it as well.
Napi::Value ShutDownSockets(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fds", Kind::kFds}})) return {};
  for (int fd : FdList(info[0])) shutdown(fd, SHUT_RDWR);
  return info.Env().Undefined();
}

// @note tcp_disconnect() in net/ipv4/tcp.c: connecting to no address ends a connection by RST, however many descriptors there are; closing does so with the last.
Napi::Value ResetConnections(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fds", Kind::kFds}})) return {};
  sockaddr none{};
  none.sa_family = AF_UNSPEC;
  for (int fd : FdList(info[0])) connect(fd, &none, sizeof none);
  return info.Env().Undefined();
}

// How many descriptors are open, or -1 with errno.
// @note st_size of /proc/self/fd is that number since Linux 6.2 (proc_fd_getattr in fs/proc/fd.c), and needs no free descriptor.
long CountOpenFds() {
  struct stat status;
  if (stat(kOwnFds, &status) == 0 && status.st_size > 0) return status.st_size;
  std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(kOwnFds), closedir);
  if (!directory) return -1;
  // Not counted: ".", ".." and the descriptor of the directory itself.
  long count = -3;
  while (readdir(directory.get()) != nullptr) count++;
  return count;
}

double ToNumber(rlim_t limit) {
  return limit == RLIM_INFINITY ? std::numeric_limits<double>::infinity() : static_cast<double>(limit);
}

Napi::Value FdLimits(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == -1) return ThrowErrno(env, errno, "getrlimit");
  long open = CountOpenFds();
  if (open == -1) return ThrowErrno(env, errno, "opendir", kOwnFds);
  Napi::Object result = Napi::Object::New(env);
  result.Set("soft", Napi::Number::New(env, ToNumber(limit.rlim_cur)));
  result.Set("hard", Napi::Number::New(env, ToNumber(limit.rlim_max)));
  result.Set("open", Napi::Number::New(env, static_cast<double>(open)));
  return result;
}

Napi::Value RaiseFdLimit(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == -1) return ThrowErrno(env, errno, "getrlimit");
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) == -1) return ThrowErrno(env, errno, "setrlimit");
  return env.Undefined();
}

}  // namespace

void InitFds(Napi::Env env, Napi::Object exports) {
  Export<CloseFds>(env, exports, "closeFds");
  Export<DuplicateFd>(env, exports, "duplicateFd");
  Export<DropSyns>(env, exports, "dropSyns");
  Export<GrowFdTable>(env, exports, "growFdTable");
  Export<EndConnections>(env, exports, "endConnections");
  Export<ShutDownSockets>(env, exports, "shutDownSockets");
  Export<ResetConnections>(env, exports, "resetConnections");
  Export<FdLimits>(env, exports, "fdLimits");
  Export<RaiseFdLimit>(env, exports, "raiseFdLimit");
}

}  // namespace tsunagi
