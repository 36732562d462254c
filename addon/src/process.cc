// Processes as such.

#include <sys/wait.h>

#include <cerrno>

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

}  // namespace

void InitProcess(Napi::Env env, Napi::Object exports) { Export<Reap>(env, exports, "reap"); }

}  // namespace tsunagi
