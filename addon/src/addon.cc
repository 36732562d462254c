#include "addon.h"

namespace tsunagi {
namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new AddonData);
  InitUnixSocket(env, exports);
  InitFdChannel(env, exports);
  InitFds(env, exports);
  InitNotify(env, exports);
  InitSharedMemory(env, exports);
  InitProcess(env, exports);
  InitWatcher(env, exports);
  InitStreams(env, exports);
  InitHttp2(env, exports);
  InitVerify(env, exports);
  InitRepair(env, exports);
  InitTcpDump(env, exports);
  InitTcpRestore(env, exports);
  InitWake(env, exports);
  InitPacketHold(env, exports);
  InitKeeper(env, exports);
  InitSelfTest(env, exports);
  return exports;
}

}  // namespace
}  // namespace tsunagi

// What NODE_API_MODULE expands to, which takes no qualified name.
NAPI_MODULE_INIT() { return Napi::RegisterModule(env, exports, tsunagi::Init); }
