// holdCreate(), holdAdd(), holdRelease(), holdList(), holdRemove().

#include <cerrno>
#include <memory>

#include "addon.h"
#include "arguments.h"
#include "connection_record.h"
#include "holds.h"
#include "napi_error.h"

namespace tsunagi {
namespace {

Holds& HoldsOf(Napi::Env env) {
  std::shared_ptr<Holds>& holds = env.GetInstanceData<AddonData>()->holds;
  if (!holds) holds = std::make_shared<Holds>();
  return *holds;
}

Napi::Value ThrowHold(Napi::Env env, int error) {
  switch (error) {
    case EPERM:
    case EACCES:
      return ThrowErrnoBecause(env, error, "nftables", "holding packets needs CAP_NET_ADMIN in this network namespace");
    case EPROTONOSUPPORT:
    case EAFNOSUPPORT:
    case EOPNOTSUPP:
      return ThrowErrnoBecause(env, error, "nftables", "this kernel has no nftables, or not for the inet family");
    case ENOENT:
      return ThrowErrnoBecause(env, error, "nftables", "there is no table inet tsunagi");
    default:
      return ThrowErrno(env, error, "nftables");
  }
}

Napi::Value HoldCreate(const Napi::CallbackInfo& info) {
  int error = HoldsOf(info.Env()).Create();
  if (error != 0 && error != EEXIST) return ThrowHold(info.Env(), error);
  return Napi::Boolean::New(info.Env(), error == 0);
}

Napi::Value HoldRemove(const Napi::CallbackInfo& info) {
  int error = HoldsOf(info.Env()).Remove();
  if (error != 0 && error != ENOENT) return ThrowHold(info.Env(), error);
  return Napi::Boolean::New(info.Env(), error == 0);
}

// False with an exception pending.
bool ToKeys(const Napi::CallbackInfo& info, HoldKeys* keys) {
  FdList ports(info[0]);
  for (int port : ports) {
    if (port < 1 || port > UINT16_MAX) {
      ThrowRange(info.Env(), "The \"ports\" argument must hold numbers from 1 to 65535");
      return false;
    }
  }
  Napi::Uint8Array bytes = info[1].As<Napi::Uint8Array>();
  if (bytes.ByteLength() % sizeof(Tuple) != 0) {
    ThrowRange(info.Env(), "The \"tuples\" argument must hold 36 bytes for each connection");
    return false;
  }
  const auto* tuples = reinterpret_cast<const Tuple*>(bytes.Data());
  *keys = ToHoldKeys(ports.begin(), ports.size(), tuples, bytes.ByteLength() / sizeof(Tuple));
  return true;
}

Napi::Value HoldAdd(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"ports", Kind::kFds}, {"tuples", Kind::kBytes}, {"timeoutMs", Kind::kTimeout}})) return {};
  double timeout_ms = std::trunc(info[2].As<Napi::Number>().DoubleValue());
  if (timeout_ms < 1) return ThrowRange(info.Env(), "The \"timeoutMs\" argument must be at least 1");
  HoldKeys keys;
  if (!ToKeys(info, &keys)) return {};
  if (int error = HoldsOf(info.Env()).Add(keys, timeout_ms)) return ThrowHold(info.Env(), error);
  return info.Env().Undefined();
}

Napi::Value HoldRelease(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"ports", Kind::kFds}, {"tuples", Kind::kBytes}})) return {};
  HoldKeys keys;
  if (!ToKeys(info, &keys)) return {};
  size_t released = 0;
  if (int error = HoldsOf(info.Env()).Release(keys, &released)) return ThrowHold(info.Env(), error);
  return Napi::Number::New(info.Env(), static_cast<double>(released));
}

Napi::Value HoldList(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  HeldKeys held;
  if (int error = HoldsOf(env).List(&held)) return ThrowHold(env, error);
  size_t port_count = held[kHeldPorts].size();
  size_t tuple_count = held[kHeldIpv4].size() + held[kHeldIpv6].size();
  Napi::Int32Array ports = Napi::Int32Array::New(env, port_count);
  Napi::Uint8Array tuples = Napi::Uint8Array::New(env, tuple_count * sizeof(Tuple));
  Napi::Float64Array ports_left = Napi::Float64Array::New(env, port_count);
  Napi::Float64Array tuples_left = Napi::Float64Array::New(env, tuple_count);
  size_t index = 0;
  for (const auto& [key, left] : held[kHeldPorts]) {
    ports.Data()[index] = ToPort(key);
    ports_left.Data()[index++] = left;
  }
  index = 0;
  for (HoldSetNumber number : {kHeldIpv4, kHeldIpv6}) {
    for (const auto& [key, left] : held[number]) {
      Tuple tuple = ToTuple(key, number == kHeldIpv4);
      std::memcpy(tuples.Data() + index * sizeof tuple, &tuple, sizeof tuple);
      tuples_left.Data()[index++] = left;
    }
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("ports", ports);
  result.Set("portsLeftMs", ports_left);
  result.Set("tuples", tuples);
  result.Set("tuplesLeftMs", tuples_left);
  return result;
}

}  // namespace

void InitPacketHold(Napi::Env env, Napi::Object exports) {
  Export<HoldCreate>(env, exports, "holdCreate");
  Export<HoldAdd>(env, exports, "holdAdd");
  Export<HoldRelease>(env, exports, "holdRelease");
  Export<HoldList>(env, exports, "holdList");
  Export<HoldRemove>(env, exports, "holdRemove");
}

}  // namespace tsunagi
