"""The worker that runs scripts and handlers on QuickJS inside WebAssembly.

Each run has a realm of its own: a second wall around code that means harm.

Importing any of it starts nothing, no engine and no thread. So the zygote can load it and fork.

worker    the process
compiled  where the machine code of the engine is kept
guest     the engine as WebAssembly, compiled for this machine
machine   what all instances of it share, and the little that it may import
instance  one memory, and calls into it
image     a memory as it was, which others begin with
origin    the prelude in a memory
realm     the entries to an instance
program   a function, and its runs
watch     ends what takes too long
"""
