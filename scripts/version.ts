import manifest from '../package.json' with { type: 'json' }

/** One version for all that is in this repository. */
export const version = manifest.version
