/** Other methods for a while; what was there before comes back. Undoing it twice does nothing. */
export function override(target: object, methods: Methods): () => void {
  const before = new Map<string, PropertyDescriptor | undefined>()
  for (const [name, value] of Object.entries(methods)) {
    before.set(name, Object.getOwnPropertyDescriptor(target, name))
    Object.defineProperty(target, name, { value, configurable: true, writable: true })
  }
  return () => {
    for (const [name, descriptor] of before) {
      if (descriptor) Object.defineProperty(target, name, descriptor)
      else delete (target as Record<string, unknown>)[name]
    }
    before.clear()
  }
}

type Methods = Record<string, (...args: never[]) => void>
