// enterRepair() and leaveRepair().

#include "addon.h"
#include "arguments.h"
#include "napi_error.h"
#include "repair_mode.h"

namespace tsunagi {
namespace {

Napi::Value EnterRepair(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fds", Kind::kFds}})) return {};
  FdList fds(info[0]);
  Napi::Int32Array entered = Napi::Int32Array::New(info.Env(), fds.size());
  int* next = entered.Data();
  for (int fd : fds) *next++ = EnterRepairMode(fd);
  return entered;
}

Napi::Value LeaveRepair(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fds", Kind::kFds}, {"entered", Kind::kFds}, {"probe", Kind::kBoolean}})) return {};
  FdList fds(info[0]);
  FdList entered(info[1]);
  if (fds.size() != entered.size()) return ThrowRange(info.Env(), "The \"entered\" argument must have one number for each of \"fds\"");
  bool probe = info[2].As<Napi::Boolean>();
  Napi::Int32Array errors = Napi::Int32Array::New(info.Env(), fds.size());
  int* next = errors.Data();
  const int* reuse = entered.begin();
  for (int fd : fds) *next++ = LeaveRepairMode(fd, *reuse++, probe);
  return errors;
}

}  // namespace

void InitRepair(Napi::Env env, Napi::Object exports) {
  Export<EnterRepair>(env, exports, "enterRepair");
  Export<LeaveRepair>(env, exports, "leaveRepair");
}

}  // namespace tsunagi
