import { MAX_SHAPE_KEYS, MAX_SHAPES } from './graph-format.js'

/** Where a list of keys goes on from here. Most have one way on, which is kept beside the map of all. */
interface Step {
  shape: number | undefined
  lastKey: string | undefined
  lastStep: Step | undefined
  all: Map<string, Step> | undefined
}

/** Remembers lists of keys, so that ten thousand objects of one shape name their keys once. */
export class ShapeTable {
  readonly #empty: Step = newStep()
  #count = 0

  find(keys: readonly string[]): number | undefined {
    let step: Step | undefined = this.#empty
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i] as string
      if (step.lastKey !== key) {
        const next: Step | undefined = step.all?.get(key)
        if (next === undefined) return undefined
        step.lastKey = key
        step.lastStep = next
      }
      step = step.lastStep as Step
    }
    return step.shape
  }

  /** Whether it remembers these keys from now on. */
  add(keys: readonly string[]): boolean {
    if (this.#count === MAX_SHAPES || keys.length > MAX_SHAPE_KEYS) return false
    let step = this.#empty
    for (const key of keys) {
      step.all ??= new Map()
      let next = step.all.get(key)
      if (next === undefined) {
        next = newStep()
        step.all.set(key, next)
      }
      step.lastKey = key
      step.lastStep = next
      step = next
    }
    step.shape = this.#count++
    return true
  }
}

function newStep(): Step {
  return { shape: undefined, lastKey: undefined, lastStep: undefined, all: undefined }
}
