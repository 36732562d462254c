import packageJson from '../package.json' with { type: 'json' }

/** Version of this package, for messages to people and to the other process. */
export const VERSION: string = packageJson.version
