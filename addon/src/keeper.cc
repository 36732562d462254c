// Starts a program from memory, detached from this process: nothing of it is read from disk when it is needed (see addon/keeper).

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>

#include "addon.h"
#include "arguments.h"
#include "deadline.h"
#include "napi_error.h"
#include "unique_fd.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

namespace tsunagi {
namespace {

constexpr int kChannelInKeeper = 3;
// Above every number that the new process has a use for.
constexpr int kAside = 10;

// @note memfd_create(2): MFD_EXEC since 6.3, which vm.memfd_noexec may require; EINVAL before.
UniqueFd CreateImage(const uint8_t* program, size_t length) {
  UniqueFd image(memfd_create("tsunagi-keeper", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC));
  if (!image && errno == EINVAL) image = UniqueFd(memfd_create("tsunagi-keeper", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!image) return image;
  for (size_t written = 0; written < length;) {
    ssize_t result = RetryInterrupted([&] { return write(image.Get(), program + written, length - written); });
    if (result == -1) return UniqueFd();
    written += static_cast<size_t>(result);
  }
  if (fcntl(image.Get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == -1) return UniqueFd();
  return UniqueFd(fcntl(image.Get(), F_DUPFD_CLOEXEC, kAside));
}

// What the new process does before it is another program, in the memory of this one: system calls and nothing else. Returns only on failure.
// @note Node sets CLOEXEC on descriptors 0 to 2 (uv_disable_stdio_inheritance): without new ones the program's first socket would be its standard input.
int BecomeProgram(int image, int channel, int null) {
  for (int fd = 0; fd <= 2; fd++) {
    if (dup2(null, fd) == -1) return errno;
  }
  if (dup2(channel, kChannelInKeeper) == -1 || setsid() == -1) return errno;
  char name[] = "tsunagi-keeper";
  char* arguments[] = {name, nullptr};
  char* environment[] = {nullptr};
  syscall(SYS_execveat, image, "", arguments, environment, AT_EMPTY_PATH);
  return errno;
}

// 0 or an errno. The program forks once more and its first process ends at once, which is waited for: nobody's child is left, and no zombie.
int StartDetached(int image, int channel, int null) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);  // no handler of this process may run in the memory that the two share
  volatile int error = 0;
  pid_t child = vfork();
  if (child == 0) {
    error = BecomeProgram(image, channel, null);
    _exit(1);
  }
  if (child == -1) error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (child > 0) RetryInterrupted([&] { return waitpid(child, nullptr, 0); });
  return error;
}

Napi::Value StartKeeper(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"program", Kind::kBytes}})) return {};
  Napi::Uint8Array program = info[0].As<Napi::Uint8Array>();
  UniqueFd image = CreateImage(program.Data(), program.ByteLength());
  if (!image) return ThrowErrno(env, errno, "memfd_create");
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1) return ThrowErrno(env, errno, "socketpair");
  UniqueFd ours(pair[0]);
  UniqueFd low(pair[1]);
  UniqueFd theirs(fcntl(low.Get(), F_DUPFD_CLOEXEC, kAside));
  UniqueFd low_null(open("/dev/null", O_RDWR | O_CLOEXEC));
  UniqueFd null(fcntl(low_null.Get(), F_DUPFD_CLOEXEC, kAside));
  if (!theirs || !null || fcntl(ours.Get(), F_SETFL, O_NONBLOCK) == -1) return ThrowErrno(env, errno, "fcntl");
  int error = StartDetached(image.Get(), theirs.Get(), null.Get());
  if (error != 0) return ThrowErrno(env, error, "execveat");
  return Napi::Number::New(env, ours.Release());
}

}  // namespace

void InitKeeper(Napi::Env env, Napi::Object exports) { Export<StartKeeper>(env, exports, "startKeeper"); }

}  // namespace tsunagi
