/** ` Did you mean x?` for the one of `names` that is nearest to `typed`, or nothing where none is near. */
export function nearest(typed: string, names: readonly string[]): string {
  const [best] = names.map((name) => ({ name, distance: distanceOf(typed, name) })).sort((a, b) => a.distance - b.distance)
  return best && best.distance <= Math.max(1, Math.floor(typed.length / 3)) ? ` Did you mean ${best.name}?` : ''
}

/** Levenshtein's: letters to add, to drop or to change. */
function distanceOf(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const changed = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(changed, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    row = next
  }
  return row[b.length] as number
}
