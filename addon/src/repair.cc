// TCP_REPAIR on and off. @note tcp_repair_set() in net/ipv4/tcp.c (Linux 6.18): entering needs CAP_NET_ADMIN in the user namespace that
// owns the network namespace; a socket in repair mode closes without a FIN or RST; entering and leaving overwrite SO_REUSEADDR.

#include <linux/tcp.h>

#include <cerrno>

#include "addon.h"
#include "arguments.h"
#include "napi_error.h"
#include "socket_options.h"

namespace tsunagi {
namespace {

// Its SO_REUSEADDR, which repair mode overwrites, or the negative errno.
int Enter(int fd) {
  int reuse = 0;
  if (!GetOption(fd, SOL_SOCKET, SO_REUSEADDR, &reuse)) return -errno;
  if (!SetOption(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON)) return -errno;
  return reuse;
}

int Leave(int fd, int reuse, bool probe) {
  if (!SetOption(fd, IPPROTO_TCP, TCP_REPAIR, probe ? TCP_REPAIR_OFF : TCP_REPAIR_OFF_NO_WP)) return errno;
  if (reuse != 0 && !SetOption(fd, SOL_SOCKET, SO_REUSEADDR, 1)) return errno;
  return 0;
}

Napi::Value EnterRepair(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fds", Kind::kFds}})) return {};
  FdList fds(info[0]);
  Napi::Int32Array entered = Napi::Int32Array::New(info.Env(), fds.size());
  int* next = entered.Data();
  for (int fd : fds) *next++ = Enter(fd);
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
  for (int fd : fds) {
    // One that never entered has nothing to leave.
    *next++ = *reuse < 0 ? 0 : Leave(fd, *reuse, probe);
    reuse++;
  }
  return errors;
}

}  // namespace

void InitRepair(Napi::Env env, Napi::Object exports) {
  Export<EnterRepair>(env, exports, "enterRepair");
  Export<LeaveRepair>(env, exports, "leaveRepair");
}

}  // namespace tsunagi
