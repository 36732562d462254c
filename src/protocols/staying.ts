import { DISCARD, leaveNothing, type Protocol } from './protocol.js'

/** A protocol whose connections do not move: nothing asks for more of it than how they drain. */
export function staying({ reason, ...own }: Pick<Protocol, 'name' | 'knows' | 'drain'> & { readonly reason: string }): Protocol {
  return {
    ...own,
    kind: undefined,
    obstacleOf: () => ({ reason, passes: false }),
    watch: () => () => {},
    snapshot: () => undefined,
    leave: () => leaveNothing(DISCARD),
    refuse: () => reason,
    adopt() {
      throw new Error(reason)
    },
    late() {},
  }
}
