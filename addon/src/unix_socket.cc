// The rendezvous of two processes: unix stream sockets under a path, and who is at the other end.

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <string>

#include "addon.h"
#include "arguments.h"
#include "deadline.h"
#include "napi_error.h"
#include "unique_fd.h"

// asm-generic/socket.h of Linux 6.5 and asm-generic/unistd.h of Linux 5.3: newer than the headers this may be built with.
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

namespace tsunagi {
namespace {

constexpr mode_t kOwnerOnly = 0600;

bool ToAddress(const std::string& path, sockaddr_un* address) {
  *address = {};
  address->sun_family = AF_UNIX;
  if (path.size() >= sizeof address->sun_path) return false;
  std::memcpy(address->sun_path, path.data(), path.size());
  return true;
}

const sockaddr* AsGeneric(const sockaddr_un* address) { return reinterpret_cast<const sockaddr*>(address); }

// Removes a bound path unless it was renamed to its place.
class PrivatePath {
 public:
  explicit PrivatePath(const std::string& path) : path_(path) {}
  PrivatePath(const PrivatePath&) = delete;
  PrivatePath& operator=(const PrivatePath&) = delete;
  ~PrivatePath() {
    if (!published_) unlink(path_.c_str());
  }
  int Publish(const std::string& path) {
    int result = rename(path_.c_str(), path.c_str());
    published_ = result == 0;
    return result;
  }

 private:
  const std::string& path_;
  bool published_ = false;
};

Napi::Value ListenUnix(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"privatePath", Kind::kPath}, {"path", Kind::kPath}, {"backlog", Kind::kCount}})) return {};
  std::string private_path = info[0].As<Napi::String>();
  std::string path = info[1].As<Napi::String>();
  int backlog = info[2].As<Napi::Number>();
  sockaddr_un address;
  if (!ToAddress(path, &address)) return ThrowErrno(env, ENAMETOOLONG, "bind", path);
  if (!ToAddress(private_path, &address)) return ThrowErrno(env, ENAMETOOLONG, "bind", private_path);

  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return ThrowErrno(env, errno, "socket");
  if (bind(fd.Get(), AsGeneric(&address), sizeof address) == -1) return ThrowErrno(env, errno, "bind", private_path);
  PrivatePath bound(private_path);
  // A bound path gets its mode from the umask; fchmod(2) on the socket does not reach it.
  if (chmod(private_path.c_str(), kOwnerOnly) == -1) return ThrowErrno(env, errno, "chmod", private_path);
  if (listen(fd.Get(), backlog) == -1) return ThrowErrno(env, errno, "listen", private_path);
  if (bound.Publish(path) == -1) return ThrowErrno(env, errno, "rename", path);
  return Napi::Number::New(env, fd.Release());
}

int SetSendTimeout(int fd, timespec timeout) {
  // Rounded up: zero would mean no timeout.
  timeval value{timeout.tv_sec, static_cast<suseconds_t>(timeout.tv_nsec / 1000 + 1)};
  if (value.tv_usec == 1'000'000) value = {value.tv_sec + 1, 0};
  return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &value, sizeof value);
}

// A non-blocking connect(2) to a unix socket with a full backlog fails with EAGAIN and cannot be polled for;
// a blocking one waits for room, as long as SO_SNDTIMEO says.
int ConnectWithin(int fd, const sockaddr_un& address, const Deadline& deadline) {
  int result;
  do {
    if (!deadline.Endless() && SetSendTimeout(fd, deadline.Remaining()) == -1) return errno;
    result = connect(fd, AsGeneric(&address), sizeof address);
  } while (result == -1 && errno == EINTR);
  if (result == -1) return errno == EAGAIN ? ETIMEDOUT : errno;
  timeval none{};
  if (!deadline.Endless() && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none) == -1) return errno;
  return fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) == -1 ? errno : 0;
}

Napi::Value ConnectUnix(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"path", Kind::kPath}, {"timeoutMs", Kind::kTimeout}})) return {};
  std::string path = info[0].As<Napi::String>();
  Deadline deadline(info[1].As<Napi::Number>());
  sockaddr_un address;
  if (!ToAddress(path, &address)) return ThrowErrno(env, ENAMETOOLONG, "connect", path);

  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return ThrowErrno(env, errno, "socket");
  int error = ConnectWithin(fd.Get(), address, deadline);
  if (error != 0) return ThrowErrno(env, error, "connect", path);
  return Napi::Number::New(env, fd.Release());
}

Napi::Value AcceptUnix(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"fd", Kind::kFd}})) return {};
  int listener = info[0].As<Napi::Number>();
  UniqueFd fd(RetryInterrupted([&] { return accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); }));
  if (!fd && errno != EAGAIN && errno != EWOULDBLOCK) return ThrowErrno(env, errno, "accept");
  return Napi::Number::New(env, fd.Release());
}

Napi::Value SocketPair(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == -1) {
    return ThrowErrno(env, errno, "socketpair");
  }
  Napi::Array pair = Napi::Array::New(env, 2);
  pair.Set(0u, fds[0]);
  pair.Set(1u, fds[1]);
  return pair;
}

int GetPeerCredentials(int fd, ucred* credentials) {
  socklen_t length = sizeof *credentials;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, &length);
}

Napi::Value PeerCredentials(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"fd", Kind::kFd}})) return {};
  ucred credentials;
  if (GetPeerCredentials(info[0].As<Napi::Number>(), &credentials) == -1) return ThrowErrno(env, errno, "getsockopt");
  Napi::Object result = Napi::Object::New(env);
  result.Set("pid", Napi::Number::New(env, credentials.pid));
  result.Set("uid", Napi::Number::New(env, credentials.uid));
  result.Set("gid", Napi::Number::New(env, credentials.gid));
  return result;
}

Napi::Value PeerPidfd(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"fd", Kind::kFd}})) return {};
  int fd = info[0].As<Napi::Number>();
  int pidfd;
  socklen_t length = sizeof pidfd;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) == 0) return Napi::Number::New(env, pidfd);
  if (errno != ENOPROTOOPT) return ThrowErrno(env, errno, "getsockopt");

  // Before 6.5 only the number is known: if the peer died since it connected, another process may have it by now.
  ucred credentials;
  if (GetPeerCredentials(fd, &credentials) == -1) return ThrowErrno(env, errno, "getsockopt");
  // pid 0: the peer lives in a pid namespace that is not visible from here.
  if (credentials.pid == 0) return ThrowErrno(env, ESRCH, "pidfd_open");
  long opened = syscall(SYS_pidfd_open, credentials.pid, 0);
  if (opened == -1) return ThrowErrno(env, errno, "pidfd_open");
  return Napi::Number::New(env, static_cast<double>(opened));
}

}  // namespace

void InitUnixSocket(Napi::Env env, Napi::Object exports) {
  Export<ListenUnix>(env, exports, "listenUnix");
  Export<ConnectUnix>(env, exports, "connectUnix");
  Export<AcceptUnix>(env, exports, "acceptUnix");
  Export<SocketPair>(env, exports, "socketPair");
  Export<PeerCredentials>(env, exports, "peerCredentials");
  Export<PeerPidfd>(env, exports, "peerPidfd");
}

}  // namespace tsunagi
