// What nghttp2 can do and Node does not ask it for. Node's binary exports nghttp2's functions, or has them from a shared library; what it does not
// give away is its nghttp2_session. So that is looked for in memory, and believed only if it says of itself what Node's session says.
//
//   JSObject ── internal field ──> Http2Session ── session_ ──> nghttp2_session ── user_data ──> Http2Session
//
// Nothing of these three is touched while looking: memory is read by process_vm_readv(2), which fails where there is none.

#include <dlfcn.h>
#include <link.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "addon.h"
#include "arguments.h"

namespace tsunagi {
namespace {

using Word = uintptr_t;

// Words that are looked at: of a JSObject with a few internal fields, of an Http2Session, of an nghttp2_session. It was found in the 24th and the 327th at most.
constexpr size_t kObjectWords = 12;
constexpr size_t kSessionWords = 64;
constexpr size_t kStateWords = 512;
// V8 tags pointers to heap objects in the lowest bit.
constexpr Word kHeapTag = 1;

// As much as can be read of `count` words.
std::vector<Word> Peek(Word address, size_t count) {
  std::vector<Word> words(count);
  if (address == 0 || address % sizeof(Word) != 0) return {};
  iovec into{words.data(), count * sizeof(Word)};
  // A page at a time: what spans a page that is not there is read up to it.
  std::vector<iovec> pages;
  for (Word at = address, end = address + count * sizeof(Word); at < end;) {
    Word next = (at | 4095) + 1;
    if (next > end) next = end;
    pages.push_back({reinterpret_cast<void*>(at), next - at});
    at = next;
  }
  ssize_t read = process_vm_readv(getpid(), &into, 1, pages.data(), pages.size(), 0);
  words.resize(read > 0 ? static_cast<size_t>(read) / sizeof(Word) : 0);
  return words;
}

// nghttp2's functions in this process; null where it has none.
struct Nghttp2 {
  int (*is_server)(void*);
  uint32_t (*next_stream_id)(void*);
  int32_t (*last_stream_id)(void*);
  int32_t (*receive_window)(void*);
  int32_t (*send_window)(void*);
  int (*submit_shutdown_notice)(void*);

  // The order of SessionFigures in src/native.
  bool Says(void* session, const double* figures) const {
    return is_server(session) == 1 && next_stream_id(session) == figures[0] && last_stream_id(session) == figures[1] &&
           receive_window(session) == figures[2] && send_window(session) == figures[3];
  }
};

template <typename Function>
bool Find(const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  return *function != nullptr;
}

bool Find(Nghttp2* nghttp2) {
  return Find("nghttp2_session_check_server_session", &nghttp2->is_server) &&
         Find("nghttp2_session_get_next_stream_id", &nghttp2->next_stream_id) &&
         Find("nghttp2_session_get_last_proc_stream_id", &nghttp2->last_stream_id) &&
         Find("nghttp2_session_get_effective_local_window_size", &nghttp2->receive_window) &&
         Find("nghttp2_session_get_remote_window_size", &nghttp2->send_window) &&
         Find("nghttp2_submit_shutdown_notice", &nghttp2->submit_shutdown_notice);
}

// Code, or a constant such as a class's table of virtual functions.
bool IsInProgram(Word address) {
  auto holds = [](dl_phdr_info* object, size_t, void* wanted) {
    Word offset = *static_cast<Word*>(wanted) - object->dlpi_addr;
    return static_cast<int>(std::any_of(object->dlpi_phdr, object->dlpi_phdr + object->dlpi_phnum, [&](const ElfW(Phdr) & part) {
      return part.p_type == PT_LOAD && offset >= part.p_vaddr && offset - part.p_vaddr < part.p_memsz;
    }));
  };
  return dl_iterate_phdr(holds, &address) != 0;
}

// nghttp2_session holds the five words of an nghttp2_mem, of which the last four are functions, and then its user_data: whoever made it.
bool IsStateOf(Word owner, Word address) {
  std::vector<Word> words = Peek(address, kStateWords);
  for (size_t i = 5; i < words.size(); i++) {
    if (words[i] != owner) continue;
    if (std::all_of(&words[i - 4], &words[i], IsInProgram)) return true;
  }
  return false;
}

// The nghttp2_session under the object that Node calls the handle of a session; null where there is none that says these figures.
void* FindSession(const Nghttp2& nghttp2, napi_value handle, const double* figures) {
  Word slot = reinterpret_cast<Word>(handle);
  std::vector<Word> tagged = slot % 8 == kHeapTag ? std::vector<Word>{slot} : Peek(slot, 1);
  if (tagged.empty()) return nullptr;
  for (Word owner : Peek(tagged[0] - kHeapTag, kObjectWords)) {
    std::vector<Word> table = Peek(owner, 1);
    if (table.empty() || !IsInProgram(table[0])) continue;
    for (Word candidate : Peek(owner, kSessionWords)) {
      if (candidate == owner || candidate % sizeof(Word) != 0 || candidate < 4096 || !IsStateOf(owner, candidate)) continue;
      void* session = reinterpret_cast<void*>(candidate);
      if (nghttp2.Says(session, figures)) return session;
    }
  }
  return nullptr;
}

Napi::Value ShutdownNotice(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"handle", Kind::kObject}, {"figures", Kind::kNumbers}})) return {};
  Napi::Float64Array figures = info[1].As<Napi::Float64Array>();
  Nghttp2 nghttp2;
  if (figures.ElementLength() != 4 || !Find(&nghttp2)) return Napi::Boolean::New(env, false);
  void* session = FindSession(nghttp2, info[0], figures.Data());
  return Napi::Boolean::New(env, session != nullptr && nghttp2.submit_shutdown_notice(session) == 0);
}

}  // namespace

void InitHttp2(Napi::Env env, Napi::Object exports) { Export<ShutdownNotice>(env, exports, "shutdownNotice"); }

}  // namespace tsunagi
