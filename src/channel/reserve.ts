import { closeSync, openSync } from 'node:fs'

/**
 * Descriptors kept for the day on which this process may open no more (RLIMIT_NOFILE): it is then that a new version is wanted most, and a
 * handover needs a few. They are of /dev/null, and given up for as long as it takes to open others in their place.
 */
export class Reserve {
  readonly #fds: number[] = []
  #size = 0

  /** From now on: before, there is nothing to lend. */
  keep(): void {
    this.#size = SIZE
    this.#fill()
  }

  #fill(): void {
    try {
      while (this.#fds.length < this.#size) this.#fds.push(openSync('/dev/null', 'r'))
    } catch {
      // There is no room, or no /dev/null: what is there must do.
    }
  }

  /** Runs `open`, which must be synchronous, with room for `count` descriptors as far as this can make it. */
  lend<T>(count: number, open: () => T): T {
    for (const fd of this.#fds.splice(0, count)) closeSync(fd)
    try {
      return open()
    } finally {
      this.#fill()
    }
  }
}

/** A connection of a successor and its pidfd, a copy of each listener and of each connection with a write in flight. */
const SIZE = 16
