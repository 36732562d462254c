import { children, type Refusal, refusalOf, unreadable } from './refusal.js'
import type { Reference } from './write-graph.js'

/** Steps shown at either end of a path that is longer than both together. */
const STEPS_SHOWN = 12

/** Why a root is refused, and the steps from it to the culprit. */
export interface RefusedRoot {
  readonly rootIndex: number
  readonly path: string
  readonly why: string
}

/**
 * Finds every root that reaches something that cannot be carried, by a way that is shortest. It runs only after the writer met such a
 * value, and takes time in proportion to the graph however many roots share the culprit: the graph is walked once, then backwards from
 * the culprits.
 */
export function findRefused(roots: readonly { readonly value: unknown }[], reference: Reference): RefusedRoot[] {
  const graph = walk(
    roots.map((root) => root.value),
    reference,
  )
  const ways = waysToRefusals(graph)
  const steps = new StepsTaken(graph)
  const found: RefusedRoot[] = []
  for (const [rootIndex, { value }] of roots.entries()) {
    const id = graph.ids.get(value)
    if (id !== undefined && ways[id] !== undefined) found.push({ rootIndex, ...describe(graph, ways, steps, id) })
  }
  return found
}

interface Walked {
  readonly values: unknown[]
  readonly ids: Map<unknown, number>
  /** One edge each: from `parents[i]` to `targets[i]`. */
  readonly parents: number[]
  readonly targets: number[]
  readonly refusals: Map<number, Refusal>
}

function walk(rootValues: readonly unknown[], reference: Reference): Walked {
  const graph: Walked = { values: [], ids: new Map(), parents: [], targets: [], refusals: new Map() }
  const admit = (value: unknown): number => {
    const known = graph.ids.get(value)
    if (known !== undefined) return known
    const id = graph.values.push(value) - 1
    graph.ids.set(value, id)
    return id
  }
  for (const value of rootValues) if (canBeShared(value)) admit(value)
  for (let id = 0; id < graph.values.length; id++) {
    const value = graph.values[id]
    try {
      const refusal = refusalOf(value, reference)
      if (refusal !== undefined) {
        graph.refusals.set(id, refusal)
        continue
      }
      for (const [child] of children(value as object)) {
        if (!canBeShared(child)) continue
        graph.parents.push(id)
        graph.targets.push(admit(child))
      }
    } catch (cause) {
      graph.refusals.set(id, unreadable(cause))
    }
  }
  return graph
}

/** Where a node that reaches a culprit goes on to, and how far it is. */
interface Way {
  readonly next: number
  readonly distance: number
  /** The node where the shown end of the path begins. */
  readonly tail: number
}

function waysToRefusals(graph: Walked): (Way | undefined)[] {
  const { parents, targets } = graph
  const lastEdgeInto = new Int32Array(graph.values.length).fill(-1)
  const edgeBefore = new Int32Array(targets.length)
  for (let edge = 0; edge < targets.length; edge++) {
    const target = targets[edge] as number
    edgeBefore[edge] = lastEdgeInto[target] as number
    lastEdgeInto[target] = edge
  }
  const ways: (Way | undefined)[] = new Array(graph.values.length).fill(undefined)
  const queue = [...graph.refusals.keys()]
  for (const id of queue) ways[id] = { next: id, distance: 0, tail: id }
  for (let head = 0; head < queue.length; head++) {
    const id = queue[head] as number
    const way = ways[id] as Way
    for (let edge = lastEdgeInto[id] as number; edge >= 0; edge = edgeBefore[edge] as number) {
      const parent = parents[edge] as number
      if (ways[parent] !== undefined) continue
      const distance = way.distance + 1
      ways[parent] = { next: id, distance, tail: distance <= STEPS_SHOWN ? parent : way.tail }
      queue.push(parent)
    }
  }
  return ways
}

function describe(graph: Walked, ways: readonly (Way | undefined)[], taken: StepsTaken, root: number): { path: string; why: string } {
  let id = root
  const steps: string[] = []
  const go = (count: number) => {
    for (let i = 0; i < count; i++) {
      const { next } = ways[id] as Way
      steps.push(taken.between(id, next))
      id = next
    }
  }
  const { distance, tail } = ways[root] as Way
  if (distance > 2 * STEPS_SHOWN) {
    go(STEPS_SHOWN)
    steps.push(` …${distance - 2 * STEPS_SHOWN} more… `)
    id = tail
    go(STEPS_SHOWN)
  } else {
    go(distance)
  }
  const { step, why } = graph.refusals.get(id) as Refusal
  return { path: steps.join('') + step, why }
}

/** Finds steps by looking through the parent, which may be a Map of thousands that thousands of roots share: so once for each node. */
class StepsTaken {
  readonly #graph: Walked
  readonly #byParent = new Map<number, string>()

  constructor(graph: Walked) {
    this.#graph = graph
  }

  /** There is one way on from each node, so that the parent alone tells the step. */
  between(parent: number, next: number): string {
    const known = this.#byParent.get(parent)
    if (known !== undefined) return known
    const step = this.#find(this.#graph.values[parent] as object, this.#graph.values[next])
    this.#byParent.set(parent, step)
    return step
  }

  #find(parent: object, wanted: unknown): string {
    for (const [child, step] of children(parent)) if (child === wanted) return step()
    return ''
  }
}

/** Only these have an identity that two roots can share; of the rest only functions and symbols are refused. */
function canBeShared(value: unknown): boolean {
  return (typeof value === 'object' && value !== null) || typeof value === 'function' || typeof value === 'symbol'
}
