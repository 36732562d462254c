/** Whether a process exists, where the kernel has no pidfds (before Linux 5.3): a signal that does nothing. */
export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}
