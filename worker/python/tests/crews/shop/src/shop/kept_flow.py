from shop.factories import FieldsFlow

flow_instance = FieldsFlow()
