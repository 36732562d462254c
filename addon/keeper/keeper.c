// The keeper: a process that only holds sockets while no process of the server runs. It knows nothing of what it holds.
//
// Descriptor 3 is its channel to the server that leaves. From there it reads a tape, which is bytes with descriptors at certain places, and plays it to
// the first process of the same user that comes for it. Its one rule: it owns the sockets from the server's commit to the next process's commit, or
// to the end of its time; before and after it goes without a word, and its copies with it.
//
//   FILLING    reads the tape                               the server goes: so does the keeper
//   FILLED     has said so; its names lead to it            commit, or the proven death of the server: HOLDING; else it goes
//   HOLDING    waits for somebody, for its hold time        "close" from the server, SIGTERM or the end of its time: it ends everything politely
//   OFFERED    has shown the first part to a peer           peer gone: HOLDING; "go": the rest is played, and then PREPARED
//   PREPARED   the peer has everything                      commit: it goes; peer gone without it: HOLDING. Nothing else counts, no time, no signal
//
// What it is told are frames, of which only the lengths matter (src/channel/frame.ts): the first and the second that each side sends.

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tape.h"

enum { kServer = 3, kNoPeer = -1, kDead = -2 };

// A process that dies closes its descriptors a moment before it counts as dead.
static const int kDeathMs = 1000;
// A peer that takes nothing for so long has stopped.
static const int kStallMs = 10000;

struct Keeper {
  struct Tape tape;
  int names_fd;   // the unix socket that all names lead to
  int signals;
  int server;     // -1 once it has gone
  int server_pid; // a pidfd, kDead, or -1: nobody knows
  int peer;
  int prepared;
  struct FrameCounter from_peer;
  struct FrameCounter from_server;
  int64_t deadline;
  ino_t names_inode;
};

static int64_t Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int Readable(int fd, int timeout_ms) {
  struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
  return poll(&poll_fd, 1, timeout_ms) > 0;
}

// ---- names

// All names are links to one socket file: renamed into place, so that a name never leads to a socket that does not listen.
static int PublishNames(struct Keeper* keeper) {
  const char* private_path = keeper->tape.names;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(private_path) >= sizeof address.sun_path) return -1;
  strcpy(address.sun_path, private_path);
  keeper->names_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (keeper->names_fd < 0) return -1;
  unlink(private_path);
  umask(0177);
  if (bind(keeper->names_fd, (struct sockaddr*)&address, sizeof address) != 0 || listen(keeper->names_fd, 16) != 0) return -1;
  struct stat status;
  if (lstat(private_path, &status) != 0) return -1;
  keeper->names_inode = status.st_ino;
  char link_path[sizeof address.sun_path + 8];
  int result = 0;
  for (const char* name = NextName(&keeper->tape, private_path); name; name = NextName(&keeper->tape, name)) {
    snprintf(link_path, sizeof link_path, "%s.1", private_path);
    if (link(private_path, link_path) != 0 || rename(link_path, name) != 0) result = -1;
  }
  unlink(private_path);
  return result;
}

static void RemoveNames(struct Keeper* keeper) {
  struct stat status;
  for (const char* name = NextName(&keeper->tape, keeper->tape.names); name; name = NextName(&keeper->tape, name)) {
    // Somebody else may have put a socket of its own there.
    if (lstat(name, &status) == 0 && status.st_ino == keeper->names_inode) unlink(name);
  }
}

// ---- the end

static void EndConnection(int fd) {
  // Closing with bytes unread would be a reset.
  for (int round = 0; round < 16 && recv(fd, NULL, 1 << 20, MSG_TRUNC | MSG_DONTWAIT) > 0; round++) continue;
  shutdown(fd, SHUT_WR);
}

static void EndListener(int fd) {
  struct sockaddr_un address = {0};
  socklen_t length = sizeof address;
  int is_unix = getsockname(fd, (struct sockaddr*)&address, &length) == 0 && address.sun_family == AF_UNIX;
  // Else the path would be in use for ever, by nobody.
  if (is_unix && length > offsetof(struct sockaddr_un, sun_path) && address.sun_path[0] == '/') unlink(address.sun_path);
  for (;;) {
    int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (accepted < 0) break;
    EndConnection(accepted);
    close(accepted);
  }
}

// Nobody has come. First the names go and the listeners, so that whoever listens from now on finds the address free.
static void EndEverything(struct Keeper* keeper) {
  RemoveNames(keeper);
  const struct Tape* tape = &keeper->tape;
  for (int pass = 0; pass < 2; pass++) {
    for (size_t i = 0; i < tape->fd_count; i++) {
      int is_listener = 0;
      socklen_t length = sizeof is_listener;
      getsockopt(tape->fds[i].fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listener, &length);
      if (is_listener != (pass == 0)) continue;
      if (is_listener) EndListener(tape->fds[i].fd);
      else EndConnection(tape->fds[i].fd);
      close(tape->fds[i].fd);
    }
  }
  _exit(0);
}

// ---- the next process

static void DropPeer(struct Keeper* keeper) {
  close(keeper->peer);
  keeper->peer = kNoPeer;
  keeper->prepared = 0;
  keeper->deadline = Now() + keeper->tape.hold_ms;
}

static void AcceptPeer(struct Keeper* keeper) {
  int peer = accept4(keeper->names_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (peer < 0) return;
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0 || credentials.uid != geteuid()) {
    close(peer);
    return;
  }
  if (keeper->peer != kNoPeer) {
    SendAll(peer, keeper->tape.busy, keeper->tape.busy_bytes, 0);
    close(peer);
    return;
  }
  keeper->peer = peer;
  keeper->from_peer = (struct FrameCounter){0};
  keeper->deadline = Now() + keeper->tape.patience_ms;
  if (PlayTape(&keeper->tape, peer, 0, keeper->tape.offer_bytes, kStallMs) != 0) DropPeer(keeper);
}

static void ReadPeer(struct Keeper* keeper) {
  for (;;) {
    int frames = CountFrames(&keeper->from_peer, keeper->peer);
    if (frames == kNothingYet) return;
    if (frames < 0) return DropPeer(keeper);
    if (frames >= 2) {
      // Committed: these are the peer's alone.
      RemoveNames(keeper);
      _exit(0);
    }
    if (keeper->prepared || frames < 1) continue;
    if (PlayTape(&keeper->tape, keeper->peer, keeper->tape.offer_bytes, keeper->tape.bytes, kStallMs) != 0) return DropPeer(keeper);
    keeper->prepared = 1;
  }
}

// ---- the life of a keeper

static void ReadServer(struct Keeper* keeper) {
  int frames = CountFrames(&keeper->from_server, keeper->server);
  if (frames == kNothingYet) return;
  if (frames < 0) {
    close(keeper->server);
    keeper->server = -1;
  } else if (frames >= 2 && !keeper->prepared) {
    EndEverything(keeper); // the stop was meant as one
  }
}

static void ReadSignal(struct Keeper* keeper) {
  struct signalfd_siginfo info;
  if (read(keeper->signals, &info, sizeof info) == sizeof info && !keeper->prepared) EndEverything(keeper);
}

static void Hold(struct Keeper* keeper) {
  keeper->deadline = Now() + keeper->tape.hold_ms;
  for (;;) {
    struct pollfd fds[] = {
        {.fd = keeper->peer, .events = POLLIN},
        {.fd = keeper->names_fd, .events = POLLIN},
        // A peer that has everything may own it already.
        {.fd = keeper->prepared ? -1 : keeper->server, .events = POLLIN},
        {.fd = keeper->prepared ? -1 : keeper->signals, .events = POLLIN},
    };
    int64_t left = keeper->deadline - Now();
    if (!keeper->prepared && left <= 0) EndEverything(keeper);
    if (poll(fds, sizeof fds / sizeof *fds, keeper->prepared ? -1 : (int)left) <= 0) continue;
    if (fds[0].revents) ReadPeer(keeper);
    if (fds[1].revents) AcceptPeer(keeper);
    if (!keeper->prepared && fds[2].revents) ReadServer(keeper);
    if (!keeper->prepared && fds[3].revents) ReadSignal(keeper);
  }
}

// From FILLED: commit, or the server's death, which leaves nobody else to own them.
static int AwaitCommit(struct Keeper* keeper) {
  for (;;) {
    Readable(keeper->server, -1);
    int frames = CountFrames(&keeper->from_server, keeper->server);
    if (frames >= 1) return 0;
    if (frames >= 0 || frames == kNothingYet) continue;
    close(keeper->server);
    keeper->server = -1;
    if (keeper->server_pid == kDead) return 0;
    return keeper->server_pid >= 0 && Readable(keeper->server_pid, kDeathMs) ? 0 : -1;
  }
}

static void Detach(void) {
  // The first process is the server's child, which waits for it: the second one is nobody's.
  if (fork() != 0) _exit(0);
  prctl(PR_SET_NAME, "tsunagi-keeper");
  prctl(PR_SET_DUMPABLE, 0); // what it holds may be secret
  syscall(SYS_close_range, kServer + 1, ~0U, 0);
  if (chdir("/") != 0) _exit(1);
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

static int WatchSignals(void) {
  sigset_t all, meant;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, NULL);
  sigemptyset(&meant);
  sigaddset(&meant, SIGTERM);
  sigaddset(&meant, SIGINT);
  return signalfd(-1, &meant, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int PidfdOf(int fd) {
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0 || credentials.pid == 0) return -1;
  int pidfd = (int)syscall(SYS_pidfd_open, credentials.pid, 0);
  return pidfd < 0 && errno == ESRCH ? kDead : pidfd;
}

int main(void) {
  Detach();
  struct Keeper keeper = {.server = kServer, .peer = kNoPeer, .names_fd = -1};
  keeper.signals = WatchSignals();
  keeper.server_pid = PidfdOf(kServer);
  if (ReadTape(&keeper.tape, kServer, kStallMs) != 0) return 1;
  int is_found = PublishNames(&keeper) == 0;
  // A server that cannot be told is dead, or about to be: what is waited for next finds out.
  if (is_found) SendAll(kServer, keeper.tape.ack, keeper.tape.ack_bytes, kStallMs);
  if (!is_found || AwaitCommit(&keeper) != 0) {
    RemoveNames(&keeper);
    return 1;
  }
  Hold(&keeper);
}
