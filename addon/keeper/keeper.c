// The keeper: a process that only holds sockets while no process of the server runs. It knows nothing of what it holds.
//
// Descriptor 3 is its channel to the server that leaves. From there it reads a tape, which is bytes with descriptors at certain places, and plays it to
// the first process of the same user that comes for it. Its one rule: it owns the sockets from the server's commit to the next process's commit, or
// to the end of its time; before and after it goes without a word, and its copies with it.
//
//   FILLING    reads the tape                               the server goes: so does the keeper
//   FILLED     has said so; its names lead to it            commit, or the proven death of the server: HOLDING; else it goes
//   HOLDING    waits for somebody, for its hold time        "close" from the server, SIGTERM, the end of its time, or a supervisor that starts nobody:
//                                                           it ends everything politely
//   OFFERED    has shown the first part to a peer           peer gone: HOLDING; "go": the rest is played, and then PREPARED
//   PREPARED   the peer has everything                      commit: it goes; peer gone without it: HOLDING. Nothing else counts, no time, no signal
//
// A server that asks for crash survival has one while it lives: then FILLED is GUARDING. Copies of its connections come and go (escrow.h); a goodbye, or an end
// of the channel that is no proven death, lets go of everything without a word; the proven death is HOLDING.
//
// What it is told are frames, of which only the lengths matter (src/channel/frame.ts): the first and the second that each side sends.

#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "ending.h"
#include "escrow.h"
#include "names.h"
#include "process.h"
#include "supervisor.h"
#include "tape.h"

enum { kServer = 3, kNoPeer = -1 };

// A process that dies closes its descriptors a moment before it counts as dead.
static const int kDeathMs = 1000;
// From the first descriptor that it closes to the last, ms.
static const int kDyingMs = 200;
// A peer that takes nothing for so long has stopped.
static const int kStallMs = 10000;
// How often it is looked at what the supervisor does.
static const int kLookMs = 100;

struct Keeper {
  struct Tape tape;
  struct Escrow escrow;
  struct Names names;
  struct Supervisor supervisor;
  int signals;
  int server;     // -1 once it has gone
  int server_pid; // a pidfd, kDeadProcess, or -1: nobody knows
  int peer;
  int prepared;
  struct FrameCounter from_peer;
  struct FrameCounter from_server;
  int64_t deadline;
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

// ---- the end

// Nobody has come. First the names go and the listeners, so that whoever listens from now on finds the address free.
static void EndEverything(struct Keeper* keeper) {
  RemoveNames(&keeper->names, &keeper->tape);
  const struct Tape* tape = &keeper->tape;
  for (size_t i = 0; i < tape->fd_count; i++) EndPolitely(tape->fds[i].fd, 1);
  for (size_t i = 0; i < tape->fd_count; i++) EndPolitely(tape->fds[i].fd, 0);
  for (size_t i = 0; i < keeper->escrow.room; i++) {
    if (keeper->escrow.fds[i] >= 0) EndPolitely(keeper->escrow.fds[i], 0);
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
  int peer = AcceptOwn(&keeper->names);
  if (peer < 0) return;
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

static int PlayRest(const struct Keeper* keeper) {
  const struct Tape* tape = &keeper->tape;
  return tape->is_escrow ? PlayEscrow(&keeper->escrow, tape, keeper->peer, kStallMs)
                         : PlayTape(tape, keeper->peer, tape->offer_bytes, tape->bytes, kStallMs);
}

static void ReadPeer(struct Keeper* keeper) {
  for (;;) {
    int frames = CountFrames(&keeper->from_peer, keeper->peer);
    if (frames == kNothingYet) return;
    if (frames < 0) return DropPeer(keeper);
    if (frames >= 2) {
      // Committed: these are the peer's alone.
      RemoveNames(&keeper->names, &keeper->tape);
      _exit(0);
    }
    if (keeper->prepared || frames < 1) continue;
    if (PlayRest(keeper) != 0) return DropPeer(keeper);
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

static int NobodyComes(struct Keeper* keeper) {
  int is_server_dead = keeper->server_pid == kDeadProcess || (keeper->server_pid >= 0 && Readable(keeper->server_pid, 0));
  return HasGivenUp(&keeper->supervisor, Now(), !is_server_dead || keeper->peer != kNoPeer);
}

static void Hold(struct Keeper* keeper) {
  keeper->supervisor.looked_at = Now();
  keeper->deadline = Now() + keeper->tape.hold_ms;
  for (;;) {
    struct pollfd fds[] = {
        {.fd = keeper->peer, .events = POLLIN},
        {.fd = keeper->names.fd, .events = POLLIN},
        // A peer that has everything may own it already.
        {.fd = keeper->prepared ? -1 : keeper->server, .events = POLLIN},
        {.fd = keeper->prepared ? -1 : keeper->signals, .events = POLLIN},
    };
    int64_t left = keeper->deadline - Now();
    if (!keeper->prepared && (left <= 0 || NobodyComes(keeper))) EndEverything(keeper);
    if (keeper->supervisor.pid != 0 && left > kLookMs) left = kLookMs;
    if (poll(fds, sizeof fds / sizeof *fds, keeper->prepared ? -1 : (int)left) <= 0) continue;
    if (fds[0].revents) ReadPeer(keeper);
    if (fds[1].revents) AcceptPeer(keeper);
    if (!keeper->prepared && fds[2].revents) ReadServer(keeper);
    if (!keeper->prepared && fds[3].revents) ReadSignal(keeper);
  }
}

// The server has closed its channel: 0 if that was its death, which leaves nobody else to own them.
static int AwaitDeath(struct Keeper* keeper) {
  close(keeper->server);
  keeper->server = -1;
  if (keeper->server_pid == kDeadProcess) return 0;
  return keeper->server_pid >= 0 && Readable(keeper->server_pid, kDeathMs) ? 0 : -1;
}

// From FILLED: commit, or the server's death, which leaves nobody else to own them.
static int AwaitCommit(struct Keeper* keeper) {
  for (;;) {
    Readable(keeper->server, -1);
    int frames = CountFrames(&keeper->from_server, keeper->server);
    if (frames >= 1) return 0;
    if (frames >= 0 || frames == kNothingYet) continue;
    return AwaitDeath(keeper);
  }
}

// It listens elsewhere now.
static int ReplaceTape(struct Keeper* keeper) {
  RemoveNames(&keeper->names, &keeper->tape);
  DropTape(&keeper->tape);
  return ReadTape(&keeper->tape, kServer, kStallMs) == 0 && PublishNames(&keeper->names, &keeper->tape) == 0 ? 0 : -1;
}

static void TurnAway(const struct Keeper* keeper) {
  int peer = AcceptOwn(&keeper->names);
  if (peer >= 0) close(peer);
}

// GUARDING, until the server is proven to be dead. A process that comes has found that the server does not answer: then it may be dying, and closes one
// descriptor after the other. One that is alive all the same has an address that is in use, and nothing is to be had here.
static int Guard(struct Keeper* keeper) {
  int64_t answer_at = 0;
  for (;;) {
    struct pollfd fds[] = {
        {.fd = keeper->server, .events = POLLIN},
        {.fd = answer_at ? -1 : keeper->names.fd, .events = POLLIN},
        {.fd = keeper->signals, .events = POLLIN},
    };
    int64_t left = answer_at - Now();
    poll(fds, sizeof fds / sizeof *fds, answer_at == 0 ? -1 : left > 0 ? (int)left : 0);
    if (fds[0].revents) {
      enum OrderRead order = ReadOrder(&keeper->escrow, keeper->server, kStallMs);
      if (order == kServerGone) return AwaitDeath(keeper);
      if (order == kGoodbye || (order == kNewTape && ReplaceTape(keeper) != 0)) return -1;
    }
    if (fds[1].revents) answer_at = Now() + kDyingMs;
    if (fds[2].revents) return -1;
    if (answer_at == 0 || Now() < answer_at) continue;
    TurnAway(keeper);
    answer_at = 0;
  }
}

int main(void) {
  Detach(kServer);
  struct Keeper keeper = {.server = kServer, .peer = kNoPeer, .names = {.fd = -1}};
  keeper.signals = WatchSignals();
  keeper.server_pid = PidfdOf(kServer);
  if (ReadTape(&keeper.tape, kServer, kStallMs) != 0) return 1;
  MeetSupervisor(&keeper.supervisor, (int)keeper.tape.supervisor, keeper.tape.quiet_ms);
  int is_found = PublishNames(&keeper.names, &keeper.tape) == 0;
  // A server that cannot be told is dead, or about to be: what is waited for next finds out.
  if (is_found) SendAll(kServer, keeper.tape.ack, keeper.tape.ack_bytes, kStallMs);
  if (!is_found || (keeper.tape.is_escrow ? Guard(&keeper) : AwaitCommit(&keeper)) != 0) {
    RemoveNames(&keeper.names, &keeper.tape);
    close(keeper.server); // which tells a server that waits: the names are free. Thousands of copies take a moment
    return 1;
  }
  Hold(&keeper);
}
