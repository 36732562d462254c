#pragma once

#include <napi.h>

#include <memory>

namespace tsunagi {

class Holds;

// What one environment (the main thread or a worker) has of this addon; nothing is shared between environments.
struct AddonData {
  Napi::FunctionReference watcher_class;
  // From the first packet hold on.
  std::shared_ptr<Holds> holds;
};

// Each file of this folder that JavaScript can call adds its functions here, in the order of native.ts.
void InitUnixSocket(Napi::Env env, Napi::Object exports);
void InitFdChannel(Napi::Env env, Napi::Object exports);
void InitFds(Napi::Env env, Napi::Object exports);
void InitNotify(Napi::Env env, Napi::Object exports);
void InitSharedMemory(Napi::Env env, Napi::Object exports);
void InitProcess(Napi::Env env, Napi::Object exports);
void InitWatcher(Napi::Env env, Napi::Object exports);
void InitHttp2(Napi::Env env, Napi::Object exports);
void InitStreams(Napi::Env env, Napi::Object exports);
void InitVerify(Napi::Env env, Napi::Object exports);
void InitRepair(Napi::Env env, Napi::Object exports);
void InitTcpDump(Napi::Env env, Napi::Object exports);
void InitTcpRestore(Napi::Env env, Napi::Object exports);
void InitWake(Napi::Env env, Napi::Object exports);
void InitPacketHold(Napi::Env env, Napi::Object exports);
void InitKeeper(Napi::Env env, Napi::Object exports);
void InitSelfTest(Napi::Env env, Napi::Object exports);

template <Napi::Value (*function)(const Napi::CallbackInfo&)>
void Export(Napi::Env env, Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<function>(env, name));
}

}  // namespace tsunagi
