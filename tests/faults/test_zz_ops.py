def test_ops(undisturbed):
    c = undisturbed.changes
    print(len(c))
    for x in c[-45:]: print(x.replace(str(undisturbed.export.parent),""))
    print(undisturbed.export_cpu_seconds)
