// watch(): uv_poll_t on the loop of the calling environment.

#include <uv.h>

#include <memory>
#include <utility>

#include "addon.h"
#include "arguments.h"
#include "napi_error.h"

namespace tsunagi {
namespace {

class Watcher;

// Apart from the Watcher because libuv needs it until the close callback, which may come after the object is collected.
struct Poll {
  uv_poll_t handle;
  Watcher* watcher;
  napi_async_cleanup_hook_handle hook;
};

class Watcher : public Napi::ObjectWrap<Watcher> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Watcher",
                       {InstanceMethod<&Watcher::OnCallClose>("close"), InstanceMethod<&Watcher::OnCallRef>("ref"),
                        InstanceMethod<&Watcher::OnCallUnref>("unref")});
  }

  explicit Watcher(const Napi::CallbackInfo& info) : ObjectWrap(info) {}
  ~Watcher() override { Detach(); }

  // 0 or an error of libuv. From here to Close() the object keeps itself alive.
  int Open(Napi::Env env, int fd, Napi::Function on_readable) {
    uv_loop_t* loop;
    if (napi_get_uv_event_loop(env, &loop) != napi_ok) return UV_EINVAL;
    auto poll = std::make_unique<Poll>();
    if (int error = uv_poll_init(loop, &poll->handle, fd)) return error;
    poll_ = poll.release();
    poll_->handle.data = poll_;
    poll_->watcher = this;
    on_readable_ = Napi::Persistent(on_readable);
    context_ = std::make_unique<Napi::AsyncContext>(env, "tsunagi.watch");
    // An asynchronous hook, because the environment must go on running its loop until the handle is closed.
    napi_add_async_cleanup_hook(env, OnTeardown, poll_, &poll_->hook);
    Ref();
    return uv_poll_start(&poll_->handle, UV_READABLE, OnEvent);
  }

  void Close() {
    if (!Detach()) return;
    on_readable_.Reset();
    context_.reset();
    Unref();
  }

 private:
  static void OnEvent(uv_poll_t* handle, int, int) {
    Poll* poll = static_cast<Poll*>(handle->data);
    // An error status is reported like readability: the read that follows says what happened.
    if (poll->watcher != nullptr) poll->watcher->Notify();
  }

  static void OnTeardown(napi_async_cleanup_hook_handle, void* data) {
    Poll* poll = static_cast<Poll*>(data);
    if (poll->watcher != nullptr) poll->watcher->Close();
  }

  static void OnClosed(uv_handle_t* handle) {
    std::unique_ptr<Poll> poll(static_cast<Poll*>(handle->data));
    napi_remove_async_cleanup_hook(poll->hook);
  }

  void Notify() {
    Napi::Env env = Env();
    Napi::HandleScope scope(env);
    napi_make_callback(env, *context_, Value(), on_readable_.Value(), 0, nullptr, nullptr);
    // Neither throws nor leaves an exception when the environment is being terminated; there is nobody to tell then.
    bool pending = false;
    napi_is_exception_pending(env, &pending);
    napi_value error;
    if (pending && napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
  }

  // Stops the handle; false when it was stopped before. Calls nothing of Node-API: the destructor uses it.
  bool Detach() {
    Poll* poll = std::exchange(poll_, nullptr);
    if (poll == nullptr) return false;
    poll->watcher = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&poll->handle), OnClosed);
    return true;
  }

  Napi::Value OnCallClose(const Napi::CallbackInfo& info) {
    Close();
    return info.Env().Undefined();
  }

  Napi::Value OnCallRef(const Napi::CallbackInfo& info) {
    if (poll_ != nullptr) uv_ref(reinterpret_cast<uv_handle_t*>(&poll_->handle));
    return info.Env().Undefined();
  }

  Napi::Value OnCallUnref(const Napi::CallbackInfo& info) {
    if (poll_ != nullptr) uv_unref(reinterpret_cast<uv_handle_t*>(&poll_->handle));
    return info.Env().Undefined();
  }

  Poll* poll_ = nullptr;
  Napi::FunctionReference on_readable_;
  std::unique_ptr<Napi::AsyncContext> context_;
};

Napi::Value Watch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"fd", Kind::kFd}, {"onReadable", Kind::kFunction}})) return {};
  Napi::Object object = env.GetInstanceData<AddonData>()->watcher_class.New({});
  if (env.IsExceptionPending()) return {};
  int error = Watcher::Unwrap(object)->Open(env, info[0].As<Napi::Number>(), info[1].As<Napi::Function>());
  if (error != 0) return ThrowErrno(env, -error, "uv_poll_init");
  return object;
}

}  // namespace

void InitWatcher(Napi::Env env, Napi::Object exports) {
  env.GetInstanceData<AddonData>()->watcher_class = Napi::Persistent(Watcher::Define(env));
  Export<Watch>(env, exports, "watch");
}

}  // namespace tsunagi
