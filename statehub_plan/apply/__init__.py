"""The only caller of step effects: look, judge, ask the gate, record the intent, execute, look again, record."""
