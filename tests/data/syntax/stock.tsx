import { priceOf } from './prices';

interface Props {
  name: string;
  count: number;
}

/** A line of the list. */
export function Row(props: Props): JSX.Element {
  const price = priceOf(props.name, 'shop');
  if (props.count < 3) {
    return <b title="low">{props.name}</b>;
  }
  return <i onClick={() => show(props.name, price)}>{props.name}</i>;
}

export const List = (props: { rows: Props[] }) => {
  const rows = props.rows.filter((row) => row.count > 0);
  return <ul>{rows.map((row) => <Row key={row.name} {...row} />)}</ul>;
};
