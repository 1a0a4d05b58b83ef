/** The contract's schemas come with this page and no other. */
export const load = async () => ({ contract: await import('@orbyte/protocol') })
