// This process among others.

#pragma once

enum { kDeadProcess = -2 };

// Becomes nobody's child, with no descriptor above `highest`, and room for as many as may be.
void Detach(int highest);

// From now on signals do nothing; the returned descriptor has those that mean to stop.
int WatchSignals(void);

// A pidfd of the process that made the other end of a unix socket, kDeadProcess, or -1: nobody knows.
int PidfdOf(int fd);
