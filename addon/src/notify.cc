// One datagram to a service manager's notify socket (sd_notify(3)), and memory that travels as a descriptor.

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "deadline.h"
#include "napi_error.h"
#include "unique_fd.h"

namespace tsunagi {
namespace {

// One below the kernel's SCM_MAX_FD (include/net/scm.h).
constexpr size_t kMaxFds = 252;
// The manager reads its socket between other things; one that does not within this time is in no state to be told anything.
constexpr timeval kPatience = {2, 0};

// Leading "@" is an abstract name. False when the path is too long.
bool ToAddress(const std::string& path, sockaddr_un* address, socklen_t* length) {
  *address = {};
  address->sun_family = AF_UNIX;
  if (path.size() >= sizeof address->sun_path) return false;
  std::memcpy(address->sun_path, path.data(), path.size());
  if (path[0] == '@') address->sun_path[0] = '\0';
  *length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (path[0] == '@' ? 0 : 1));
  return true;
}

Napi::Value Notify(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"path", Kind::kPath}, {"text", Kind::kPath}, {"fds", Kind::kFds}})) return {};
  std::string path = info[0].As<Napi::String>();
  std::string text = info[1].As<Napi::String>();
  FdList fds(info[2]);
  if (fds.size() > kMaxFds) return ThrowRange(env, "The \"fds\" argument must hold at most 252 descriptors");
  sockaddr_un address;
  msghdr message{};
  if (!ToAddress(path, &address, &message.msg_namelen)) return ThrowErrno(env, ENAMETOOLONG, "sendmsg", path);
  message.msg_name = &address;
  iovec part{text.data(), text.size()};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  if (fds.size() != 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.begin(), fds.size() * sizeof(int));
  }
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return ThrowErrno(env, errno, "socket");
  if (setsockopt(fd.Get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience) == -1) return ThrowErrno(env, errno, "setsockopt");
  if (RetryInterrupted([&] { return sendmsg(fd.Get(), &message, MSG_NOSIGNAL); }) == -1) return ThrowErrno(env, errno, "sendmsg", path);
  return env.Undefined();
}

int WriteAll(int fd, const uint8_t* data, size_t length) {
  while (length != 0) {
    ssize_t written = RetryInterrupted([&] { return write(fd, data, length); });
    if (written == -1) return errno;
    data += written;
    length -= static_cast<size_t>(written);
  }
  return 0;
}

Napi::Value SealedMemory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"content", Kind::kBytes}})) return {};
  Napi::Uint8Array content = info[0].As<Napi::Uint8Array>();
  UniqueFd fd(memfd_create("tsunagi", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return ThrowErrno(env, errno, "memfd_create");
  if (int error = WriteAll(fd.Get(), content.Data(), content.ByteLength())) return ThrowErrno(env, error, "write");
  if (fcntl(fd.Get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == -1) return ThrowErrno(env, errno, "fcntl");
  return Napi::Number::New(env, fd.Release());
}

}  // namespace

void InitNotify(Napi::Env env, Napi::Object exports) {
  Export<Notify>(env, exports, "notify");
  Export<SealedMemory>(env, exports, "sealedMemory");
}

}  // namespace tsunagi
