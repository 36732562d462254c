#pragma once

namespace tsunagi {

// From here on the kernel ends this process for any system call that its one job does not need: it opens no file, starts no process,
// connects to nobody. Ends the process, saying why, where the kernel has no seccomp.
void FilterSyscalls();

}  // namespace tsunagi
