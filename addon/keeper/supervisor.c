#include "supervisor.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Milliseconds, a little more than there are on a machine that is not busy.
static const int64_t kMostBetweenLooks = 150;

// @note proc_pid_children(5), which asks for CONFIG_PROC_CHILDREN: of one thread. Node starts children from its first one.
static void ReadChildren(struct Children* children, int pid) {
  char text[kMostChildren * 8];
  snprintf(text, sizeof text, "/proc/%d/task/%d/children", pid, pid);
  children->count = -1;
  int fd = open(text, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  size_t length = 0;
  ssize_t got;
  while (length < sizeof text - 1 && (got = read(fd, text + length, sizeof text - 1 - length)) > 0) length += (size_t)got;
  close(fd);
  if (length == sizeof text - 1) return; // there are more
  text[length] = 0;
  children->count = 0;
  char* at = text;
  for (char* end; children->count < kMostChildren; at = end) {
    long child = strtol(at, &end, 10);
    if (end == at) return;
    children->pids[children->count++] = (int)child;
  }
  children->count = -1;
}

static int Contains(const struct Children* children, int pid) {
  for (int i = 0; i < children->count; i++) {
    if (children->pids[i] == pid) return 1;
  }
  return 0;
}

static int AreSame(const struct Children* one, const struct Children* other) {
  return one->count == other->count && memcmp(one->pids, other->pids, (size_t)one->count * sizeof(int)) == 0;
}

static int HasNewOne(const struct Supervisor* supervisor) {
  for (int i = 0; i < supervisor->last.count; i++) {
    if (!Contains(&supervisor->before, supervisor->last.pids[i])) return 1;
  }
  return 0;
}

void MeetSupervisor(struct Supervisor* supervisor, int pid, int64_t quiet_ms) {
  supervisor->pid = pid;
  supervisor->quiet_ms = quiet_ms;
  ReadChildren(&supervisor->before, pid);
  supervisor->last = supervisor->before;
  if (supervisor->before.count < 0) supervisor->pid = 0;
}

int HasGivenUp(struct Supervisor* supervisor, int64_t now, int is_busy) {
  if (supervisor->pid == 0) return 0;
  struct Children before = supervisor->last;
  ReadChildren(&supervisor->last, supervisor->pid);
  // One that is dead itself may be started again, and then start everything again.
  int is_quiet = !is_busy && supervisor->last.count >= 0 && AreSame(&before, &supervisor->last) && !HasNewOne(supervisor);
  // Where this process did not get to look, nor may the supervisor have got to do anything.
  int64_t elapsed = now - supervisor->looked_at;
  supervisor->quiet_for = is_quiet ? supervisor->quiet_for + (elapsed < kMostBetweenLooks ? elapsed : kMostBetweenLooks) : 0;
  supervisor->looked_at = now;
  return supervisor->quiet_for >= supervisor->quiet_ms;
}
