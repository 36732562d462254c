#include "process.h"

#include <errno.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

void Detach(int highest) {
  // The first process is the server's child, which waits for it: the second one is nobody's.
  if (fork() != 0) _exit(0);
  prctl(PR_SET_NAME, "tsunagi-keeper");
  prctl(PR_SET_DUMPABLE, 0); // what it holds may be secret
  syscall(SYS_close_range, highest + 1, ~0U, 0);
  if (chdir("/") != 0) _exit(1);
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

int WatchSignals(void) {
  sigset_t all, meant;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, NULL);
  sigemptyset(&meant);
  sigaddset(&meant, SIGTERM);
  sigaddset(&meant, SIGINT);
  return signalfd(-1, &meant, SFD_CLOEXEC | SFD_NONBLOCK);
}

int PidfdOf(int fd) {
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0 || credentials.pid == 0) return -1;
  int pidfd = (int)syscall(SYS_pidfd_open, credentials.pid, 0);
  return pidfd < 0 && errno == ESRCH ? kDeadProcess : pidfd;
}
