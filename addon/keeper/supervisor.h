// Whether whoever has started the server is starting the next one. What a supervisor does after the end of a child it does at once: where it has been quiet
// for a while, nobody will come.

#pragma once

#include <stdint.h>

enum { kMostChildren = 1024 };

struct Children {
  int pids[kMostChildren];
  // -1: nobody knows.
  int count;
};

struct Supervisor {
  // 0: there is none, or nothing can be told from what it does.
  int pid;
  int64_t quiet_ms;
  // Those that it had while the server lived.
  struct Children before;
  struct Children last;
  int64_t looked_at;
  // For how long it has been seen to be quiet.
  int64_t quiet_for;
};

// Before the server is told that it may go.
void MeetSupervisor(struct Supervisor* supervisor, int pid, int64_t quiet_ms);

// Whether nobody will come; `is_busy`: the server is not dead, or somebody has come.
int HasGivenUp(struct Supervisor* supervisor, int64_t now, int is_busy);
