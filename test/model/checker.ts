/**
 * An explicit-state model checker: every state that any order of steps can reach is visited once, breadth first, so that the first
 * counterexample found is a shortest one. States are remembered by a 53-bit hash alone: among a million the chance of one collision is 1 in 20,000.
 */
export interface Step<State> {
  readonly name: string
  readonly to: State
}

export interface Model<State> {
  readonly initial: State
  /** What makes two states the same. */
  key(state: State): string
  steps(state: State): Step<State>[]
  /** What must never be seen, in any state. */
  violation(state: State): string | undefined
  /** What must not be left undone where no step is possible any more. */
  unfinished(state: State): string | undefined
}

export interface Exploration {
  readonly states: number
  readonly terminals: number
  readonly transitions: number
  readonly depth: number
  /** Every step name that was taken. */
  readonly taken: ReadonlySet<string>
  readonly counterexample: Counterexample | undefined
}

export interface Counterexample {
  readonly what: string
  readonly trace: readonly string[]
}

export function explore<State>(model: Model<State>): Exploration {
  const seen = new Set<number>([hash(model.key(model.initial))])
  const parents: number[] = [-1]
  const names: string[] = ['']
  const taken = new Set<string>()
  let frontier: { index: number; state: State }[] = [{ index: 0, state: model.initial }]
  let [terminals, transitions, depth] = [0, 0, 0]

  const result = (counterexample?: Counterexample): Exploration => ({
    states: parents.length,
    terminals,
    transitions,
    depth,
    taken,
    counterexample,
  })
  for (; frontier.length > 0; depth++) {
    const next: typeof frontier = []
    for (const { index, state } of frontier) {
      const wrong = model.violation(state)
      if (wrong) return result({ what: wrong, trace: traceTo(index) })
      const steps = model.steps(state)
      if (steps.length === 0) {
        terminals++
        const missing = model.unfinished(state)
        if (missing) return result({ what: missing, trace: traceTo(index) })
      }
      for (const { name, to } of steps) {
        transitions++
        taken.add(name)
        const key = hash(model.key(to))
        if (seen.has(key)) continue
        seen.add(key)
        names.push(name)
        next.push({ index: parents.push(index) - 1, state: to })
      }
    }
    frontier = next
  }
  return result()

  function traceTo(index: number): string[] {
    const trace: string[] = []
    for (let at = index; at > 0; at = parents[at] as number) trace.unshift(names[at] as string)
    return trace
  }
}

export function printed({ what, trace }: Counterexample): string {
  return [what, ...trace.map((name, i) => `${String(i + 1).padStart(3)}  ${name}`)].join('\n')
}

/** cyrb53, a public-domain hash of strings. */
function hash(text: string): number {
  let [h1, h2] = [0xdeadbeef, 0x41c6ce57]
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    h1 = Math.imul(h1 ^ code, 2654435761)
    h2 = Math.imul(h2 ^ code, 1597334677)
  }
  h1 = Math.imul(h1 ^ (h1 >>> 16), 2246822507) ^ Math.imul(h2 ^ (h2 >>> 13), 3266489909)
  h2 = Math.imul(h2 ^ (h2 >>> 16), 2246822507) ^ Math.imul(h1 ^ (h1 >>> 13), 3266489909)
  return 4294967296 * (2097151 & h2) + (h1 >>> 0)
}
