"""What every part stands on: errors, codec, schema, context, clock, names."""
