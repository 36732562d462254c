#include "privileges.h"

#include <err.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace tsunagi {
namespace {

void Require(bool done, const char* what) {
  if (!done) err(EXIT_FAILURE, "%s", what);
}

// As root lets go of it, keeping what it may do for one moment longer.
void BecomeUser(uid_t uid) {
  Require(prctl(PR_SET_KEEPCAPS, 1) == 0, "PR_SET_KEEPCAPS");
  Require(setgroups(0, nullptr) == 0, "setgroups");
  Require(setresgid(uid, uid, uid) == 0, "setresgid");
  Require(setresuid(uid, uid, uid) == 0, "setresuid");
}

// What this process and its programs could ever regain; only who may change that has something to lose here.
void EmptyBoundingSet() {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++) prctl(PR_CAPBSET_DROP, capability);
}

void SetCapabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  data[0].effective = data[0].permitted = 1u << CAP_NET_ADMIN;
  if (syscall(SYS_capset, &header, data) == 0) return;
  err(EXIT_FAILURE, "this process has no CAP_NET_ADMIN to keep (systemd: AmbientCapabilities=CAP_NET_ADMIN)");
}

}  // namespace

void KeepNetAdminOnly(uid_t uid) {
  EmptyBoundingSet();
  if (geteuid() != uid) BecomeUser(uid);
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  SetCapabilities();
  Require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS");
  // Its memory is nobody else's to read, and it starts nothing.
  Require(prctl(PR_SET_DUMPABLE, 0) == 0, "PR_SET_DUMPABLE");
  rlimit none{0, 0};
  Require(setrlimit(RLIMIT_CORE, &none) == 0, "RLIMIT_CORE");
}

}  // namespace tsunagi
