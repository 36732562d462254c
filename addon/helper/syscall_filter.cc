#include "syscall_filter.h"

#include <err.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <vector>

namespace tsunagi {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "syscall_filter.cc does not know this architecture"
#endif

// Whatever their arguments are.
constexpr long kAllowed[] = {
    SYS_read, SYS_write, SYS_close, SYS_ppoll, SYS_accept4, SYS_recvmsg, SYS_sendmsg, SYS_recvfrom, SYS_sendto, SYS_getsockopt,
    SYS_bind, SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_futex, SYS_clock_gettime, SYS_restart_syscall, SYS_rt_sigreturn,
    SYS_exit, SYS_exit_group,
#ifdef SYS_poll
    SYS_poll,
#endif
};

// Of setsockopt(2): level and option.
struct Option {
  uint32_t level;
  uint32_t option;
};
constexpr Option kSettable[] = {
    {IPPROTO_TCP, TCP_REPAIR},      {SOL_SOCKET, SO_REUSEADDR}, {SOL_SOCKET, SO_RCVBUF},        {SOL_SOCKET, SO_SNDBUF},
    {SOL_SOCKET, SO_RCVBUFFORCE},   {SOL_SOCKET, SO_SNDBUFFORCE}, {SOL_NETLINK, NETLINK_CAP_ACK},
};

constexpr uint32_t Argument(size_t number) {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the low half of an argument comes first");
  return static_cast<uint32_t>(offsetof(seccomp_data, args) + number * sizeof(uint64_t));
}

class Filter {
 public:
  Filter() {
    Load(offsetof(seccomp_data, arch));
    SkipUnless(kArchitecture, 1);
    Jump(1);
    Kill();
    Load(offsetof(seccomp_data, nr));
  }

  void Allow(long call) {
    SkipUnless(static_cast<uint32_t>(call), 1);
    Allow();
  }

  // `rest` emits what decides over this call; it must not fall through.
  template <typename Rest>
  void Judge(long call, Rest rest) {
    size_t skip = code_.size();
    SkipUnless(static_cast<uint32_t>(call), 0);
    rest();
    code_[skip].jf = static_cast<uint8_t>(code_.size() - skip - 1);
  }

  void Load(uint32_t offset) { code_.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)); }
  void SkipUnless(uint32_t value, uint8_t instructions) { code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, instructions)); }
  void SkipIfAnyOf(uint32_t bits, uint8_t instructions) { code_.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, instructions, 0)); }
  void Jump(uint32_t instructions) { code_.push_back(BPF_STMT(BPF_JMP | BPF_JA, instructions)); }
  void Allow() { code_.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)); }
  void Kill() { code_.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)); }

  void Install() {
    sock_fprog program{static_cast<unsigned short>(code_.size()), code_.data()};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) err(EXIT_FAILURE, "PR_SET_SECCOMP");
  }

 private:
  std::vector<sock_filter> code_;
};

}  // namespace

void FilterSyscalls() {
  Filter filter;
  for (long call : kAllowed) filter.Allow(call);
  filter.Judge(SYS_socket, [&] {
    filter.Load(Argument(0));
    filter.SkipUnless(AF_NETLINK, 3);
    filter.Load(Argument(2));
    filter.SkipUnless(NETLINK_NETFILTER, 1);
    filter.Allow();
    filter.Kill();
  });
  filter.Judge(SYS_setsockopt, [&] {
    for (const Option& settable : kSettable) {
      filter.Load(Argument(1));
      filter.SkipUnless(settable.level, 3);
      filter.Load(Argument(2));
      filter.SkipUnless(settable.option, 1);
      filter.Allow();
    }
    filter.Kill();
  });
  // malloc() maps memory; nobody maps code.
  filter.Judge(SYS_mmap, [&] {
    filter.Load(Argument(2));
    filter.SkipIfAnyOf(PROT_EXEC, 1);
    filter.Allow();
    filter.Kill();
  });
  filter.Kill();
  filter.Install();
}

}  // namespace tsunagi
