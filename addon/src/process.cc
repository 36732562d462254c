// Processes as such.

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <memory>
#include <string>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "deadline.h"
#include "napi_error.h"

namespace tsunagi {
namespace {

// True when the child had ended. One that is not ours, or that somebody else has waited for, is none of our business.
Napi::Value Reap(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"pid", Kind::kCount}})) return {};
  siginfo_t ended{};
  auto pid = static_cast<id_t>(info[0].As<Napi::Number>().Uint32Value());
  int result = RetryInterrupted([&] { return waitid(P_PID, pid, &ended, WEXITED | WNOHANG); });
  if (result == -1 && errno != ECHILD) return ThrowErrno(env, errno, "waitid");
  return Napi::Boolean::New(env, result == 0 && ended.si_pid != 0);
}

// Every descriptor from 3 on, by the list of /proc: close_range(2) with CLOSE_RANGE_CLOEXEC is newer (5.11) than what this runs on.
bool CloseAllOnExec() {
  std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir("/proc/self/fd"), closedir);
  if (!folder) return false;
  while (const dirent* entry = readdir(folder.get())) {
    int fd = std::atoi(entry->d_name);
    if (fd > STDERR_FILENO) fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  return true;
}

std::vector<std::string> ToStrings(const Napi::Array& array) {
  std::vector<std::string> strings;
  for (uint32_t index = 0; index < array.Length(); index++) strings.push_back(array.Get(index).ToString());
  return strings;
}

std::vector<char*> ToPointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Returns only when it fails. Node has set CLOEXEC on 0 to 2 as well.
Napi::Value Execute(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"file", Kind::kPath}, {"args", Kind::kArray}, {"environment", Kind::kArray}, {"kept", Kind::kFds}})) return {};
  std::string file = info[0].As<Napi::String>();
  std::vector<std::string> args = ToStrings(info[1].As<Napi::Array>());
  std::vector<std::string> environment = ToStrings(info[2].As<Napi::Array>());
  std::vector<char*> argv = ToPointers(args);
  std::vector<char*> envp = ToPointers(environment);
  if (!CloseAllOnExec()) return ThrowErrno(env, errno, "opendir", "/proc/self/fd");
  FdList kept(info[3]);
  for (int fd : kept) fcntl(fd, F_SETFD, 0);
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) fcntl(fd, F_SETFD, 0);
  execve(file.c_str(), argv.data(), envp.data());
  int error = errno;
  for (int fd : kept) fcntl(fd, F_SETFD, FD_CLOEXEC);
  return ThrowErrno(env, error, "execve", file);
}

}  // namespace

void InitProcess(Napi::Env env, Napi::Object exports) {
  Export<Reap>(env, exports, "reap");
  Export<Execute>(env, exports, "execute");
}

}  // namespace tsunagi
