// makeTcpSockets(), enterRepair() and leaveRepair().

#include <netinet/in.h>
#include <sys/socket.h>
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

// One for each family, which is 2 or 10 as in a row; -1 for any other, and where there can be no more sockets.
Napi::Value MakeTcpSockets(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"families", Kind::kFds}})) return {};
  FdList families(info[0]);
  Napi::Int32Array fds = Napi::Int32Array::New(info.Env(), families.size());
  int* next = fds.Data();
  for (int family : families) {
    bool known = family == AF_INET || family == AF_INET6;
    *next++ = known ? socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP) : -1;
  }
  return fds;
}

}  // namespace

void InitRepair(Napi::Env env, Napi::Object exports) {
  Export<MakeTcpSockets>(env, exports, "makeTcpSockets");
  Export<EnterRepair>(env, exports, "enterRepair");
  Export<LeaveRepair>(env, exports, "leaveRepair");
}

}  // namespace tsunagi
